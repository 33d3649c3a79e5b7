"""What a run found: a JSON file with every round, and a page of tables made from the same rows."""

import json
import re
import statistics
import textwrap
from datetime import UTC, datetime
from types import SimpleNamespace

from . import machine
from .turns import Row, Timing, best, ratio, threads_text, timing

__all__ = ["as_data", "from_data", "into_page", "line", "page", "targets", "write", "write_docs"]

OWN = "cnncore"
FORWARD_BACKWARD = {"forward": 1, "backward": 2}  # multiply-adds of a convolution's stage, in units of one forward pass


# ── Numbers as text ────────────────────────────────────────────────────────────────────────────────────────────────────


def digits(value):
    """Three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(t, unit=1e3):
    """Median and quartiles of a timing, in milliseconds unless told otherwise."""
    low, high = t.quartiles
    return f"{digits(unit * t.median)} ({digits(unit * low)}–{digits(unit * high)})"


def times(t):
    """A ratio with its quartiles."""
    low, high = t.quartiles
    return f"{t.median:.2f} ({low:.2f}–{high:.2f})"


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def peers_of(row):
    """Contestants of a row that are not cnncore in one of its forms."""
    return [name for name in row.timings if not name.startswith(OWN)]


def mean(numbers):
    """The geometric mean as text."""
    numbers = list(numbers)
    return f"{statistics.geometric_mean(numbers):.2f}" if numbers else "–"


def line(row):
    """A finished row in one line: times by contestant, and the ratio to the fastest peer."""
    threads = f"{threads_text(row.facts['threads'])}, " if row.section in ("operators", "small", "layers") else ""
    batch = f"batch {row.facts['batch']} {row.facts['dtype']}, " if row.section == "layers" else ""
    parts = [f"{name} {digits(1e3 * timing(row, name).median)}" for name in row.timings]
    rival = best(row, peers_of(row))
    found = f"; {ratio(row, OWN, rival).median:.2f} × {rival}" if rival and OWN in row.timings else ""
    missing = f"; not timed: {', '.join(row.failures)}" if row.failures else ""
    return f"{threads}{batch}{row.case}: {', '.join(parts)} ms{found}{missing}"


# ── Sections ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def network_tables(rows, limits):
    """One table per comparison of whole networks."""
    parts = []
    for row in rows:
        rival = best(row, peers_of(row))
        head = [
            "contestant",
            "milliseconds (quartiles)",
            "least",
            "GFLOP/s",
            "of FMA peak",
            "cnncore ÷ it (quartiles)",
            "error",
        ]
        if row.memory:
            head += ["peak memory, MB", "of a warm step, MB"]
        lines = []
        peak = limits.best("float32", row.facts["threads"])
        for name in sorted(row.timings, key=lambda n: timing(row, n).median):
            t = timing(row, name)
            rate = 2e-9 * row.facts["multiply_adds"] / t.median
            line = [f"**{name}**" if name == rival else name, spread(t), digits(1e3 * t.least), digits(rate)]
            line += [f"{100 * rate / peak:.0f} %" if peak else "–"]
            line += [times(ratio(row, OWN, name)) if OWN in row.timings and name != OWN else "–"]
            line += [f"{row.errors[name]:.0e}" if name in row.errors else "–"]
            if row.memory:
                used = row.memory.get(name, {})
                line += [f"{used[key] / 1e6:.0f}" if used.get(key) else "–" for key in ("peak", "steady")]
            lines.append(line)
        parts.append(f"### {row.case}\n\n{table(head, lines)}\n{failed(row)}")
    return "\n".join(parts)


def engine_tables(rows, limits):
    """One table per number of threads: every network, cnncore beside the engines."""
    parts = []
    for threads in sorted({row.facts["threads"] for row in rows}):
        chosen = [row for row in rows if row.facts["threads"] == threads]
        names = [n for n in dict.fromkeys(n for row in chosen for n in row.timings) if n != OWN]
        head = ["network", "input", "parameters", "multiply-adds", "cnncore: ms"]
        head += [text for name in names for text in (f"{name}: ms", f"cnncore ÷ {name}")] + ["largest error"]
        lines = []
        for row in chosen:
            line = [row.case, "×".join(map(str, row.facts["shape"][1:])), f"{row.facts['parameters']:,}"]
            line += [f"{row.facts['multiply_adds']:,}", spread(timing(row, OWN)) if OWN in row.timings else "–"]
            for name in names:
                both = OWN in row.timings and name in row.timings
                line.append(spread(timing(row, name)) if name in row.timings else "–")
                line.append(times(ratio(row, OWN, name)) if both else "–")
            lines.append([*line, f"{row.errors[OWN]:.0e}" if OWN in row.errors else "–"])
        notes = "".join(f"\n{row.case}: {failed(row).strip()}\n" for row in chosen if row.failures)
        parts.append(f"### {threads_text(threads)}\n\n{table(head, lines)}\n{notes}")
    return "\n".join(parts)


def failed(row):
    """Who was not timed, and why."""
    return "".join(f"\nNot timed: {name}: {reason}\n" for name, reason in row.failures.items())


def scaling_tables(rows, limits):
    """Milliseconds by case and contestant, and per image."""
    names = list(dict.fromkeys(name for row in rows for name in row.timings))
    head = [
        "case",
        *(f"{name}: ms" for name in names),
        *(f"{name}: ms per image" for name in names if name.startswith(OWN)),
    ]
    lines = []
    for row in rows:
        line = [row.case, *(spread(timing(row, n)) if n in row.timings else "–" for n in names)]
        line += [
            digits(1e3 * timing(row, n).median / row.facts["batch"]) if n in row.timings else "–"
            for n in names
            if n.startswith(OWN)
        ]
        lines.append(line)
    return table(head, lines) + "\n" + "".join(f"\n{row.case}: {failed(row).strip()}" for row in rows if row.failures)


def layer_tables(rows, limits):
    """Forward and backward of every layer, for each number of threads, batch and dtype."""
    parts = []
    groups = {}
    for row in rows:
        groups.setdefault((row.facts["threads"], row.facts["batch"], row.facts["dtype"]), []).append(row)
    for (threads, batch, dtype), group in groups.items():
        peak = limits.best(dtype, threads)
        for stage, passes in FORWARD_BACKWARD.items():
            title = f"### {stage}, {threads_text(threads)}, batch {batch}, {dtype}"
            reasons = sorted({f"{name}: {why}" for row in group for name, why in row.failures.items()})
            rows_of_table = layer_table(group, stage, passes, peak)
            parts.append(f"{title}\n\n{rows_of_table}\n" + "".join(f"\nNot timed: {r}\n" for r in reasons))
    return "\n".join(parts)


def layer_table(group, stage, passes, peak):
    """One stage of the layers of a group: times, rates, and ratios to the best peer."""
    names = list(dict.fromkeys(name for row in group for name in row.timings))
    own, others = [n for n in names if n.startswith(OWN)], [n for n in names if not n.startswith(OWN)]
    head = ["layer", *(f"{n}, ms" for n in names), *(f"{n}: GFLOP/s (of peak)" for n in own)]
    head += [f"{n} ÷ best peer" for n in own]
    lines, ratios = [], {n: [] for n in own}
    for row in group:
        line = [row.case, *(digits(1e3 * timing(row, n, stage).median) if n in row.timings else "–" for n in names)]
        for n in own:
            if n not in row.timings:
                line.append("–")
                continue
            rate = 2e-9 * passes * row.facts["multiply_adds"] / timing(row, n, stage).median
            line.append(digits(rate) + (f" ({100 * rate / peak:.0f} %)" if peak else ""))
        rival = best(row, others, stage)
        for n in own:
            if rival is None or n not in row.timings:
                line.append("–")
                continue
            found = ratio(row, n, rival, stage)
            ratios[n].append(found.median)
            line.append(times(found))
        lines.append(line)
    lines.append(["geometric mean", *[""] * (len(names) + len(own)), *(mean(ratios[n]) for n in own)])
    return table(head, lines)


def operator_tables(rows, limits, unit=1e3, name_of_unit="ms"):
    """cnncore against PyTorch, operator by operator."""
    parts = []
    groups = {}
    for row in rows:
        groups.setdefault(row.facts["threads"], []).append(row)
    for threads, group in groups.items():
        stages = list(dict.fromkeys(s for row in group for t in row.timings.values() for s in t))
        head = ["operator", "peer"]
        for stage in stages:
            head += [f"{stage}: cnncore, {name_of_unit}", "peer", "ratio"]
        together = "forward" in stages
        head += ["forward + backward: ratio"] if together else []
        lines = []
        for row in sorted(group, key=lambda row: row.facts["family"]):
            (*_, rival) = [None, *peers_of(row)]
            what = {"named": rival, "composed": f"{rival}, composed", None: "no peer"}[row.facts["peer"]]
            line = [row.case, what if rival or not row.facts["peer"] else "not timed"]
            for stage in stages:
                have = [name in row.timings and stage in row.timings[name] for name in (OWN, rival)]
                line.append(spread(timing(row, OWN, stage), unit) if have[0] else "–")
                line.append(spread(timing(row, rival, stage), unit) if have[1] else "–")
                line.append(times(ratio(row, OWN, rival, stage)) if all(have) else "–")
            if together:
                line.append(times(ratio(row, OWN, rival)) if rival and OWN in row.timings else "–")
            lines.append(line)
        reasons = [f"{row.case}, {name}: {why}" for row in group for name, why in row.failures.items()]
        text = "".join(f"\nNot timed: {r}\n" for r in reasons)
        parts.append(f"### {threads_text(threads)}\n\n{table(head, lines)}\n{text}")
    return "\n".join(parts)


def small_tables(rows, limits):
    return operator_tables(rows, limits, 1e6, "µs")


def import_tables(rows, limits):
    """Import time, what it adds to numpy's, and size on disk."""
    (row,) = rows
    numpy = timing(row, "numpy").median if "numpy" in row.timings else None
    lines = [
        [
            name,
            spread(timing(row, name)),
            "–" if numpy is None else f"{1e3 * (timing(row, name).median - numpy):+.0f}",
            f"{row.facts['bytes'][name] / 1e6:.1f}",
        ]
        for name in row.timings
    ]
    return table(["package", "import, ms (quartiles)", "beyond numpy, ms", "installed, MB"], lines) + "\n" + failed(row)


TABLES = {
    "operators": operator_tables,
    "small": small_tables,
    "layers": layer_tables,
    "inference": network_tables,
    "training": network_tables,
    "scaling": scaling_tables,
    "networks": engine_tables,
    "import": import_tables,
}


# ── Targets ────────────────────────────────────────────────────────────────────────────────────────────────────────────


POOLINGS = ("max_pool", "avg_pool", "lp_pool", "fractional_max_pool", "adaptive_avg_pool", "adaptive_max_pool")


def worst(ratios):
    """The largest of named ratios as text, and how many stand above 1."""
    name = max(ratios, key=ratios.get)
    return f"{ratios[name]:.2f} ({name})"


def against_best(rows, threads, batch):
    """(ratio of cnncore to the fastest peer, its name) of whole networks, or None."""
    for row in rows:
        rival = best(row, peers_of(row))
        if (row.facts["threads"], row.facts["batch"]) == (threads, batch) and rival and OWN in row.timings:
            return ratio(row, OWN, rival), rival
    return None


def whole_ratios(rows, names=None, family=None, stage=None):
    """Operator → median ratio to its peer, where PyTorch has the operator itself."""
    found = {}
    for row in rows:
        wanted = row.case in names if names else row.facts["family"] == family
        if wanted and row.facts["peer"] == "named" and OWN in row.timings and peers_of(row):
            found[row.case] = max(ratio(row, OWN, peers_of(row)[0], stage).median, found.get(row.case, 0.0))
    return found


LAYER_CALLS = {
    OWN: "lone call",
    f"{OWN} auto": "lone call, algorithm='auto'",
    f"{OWN} in a plan": "as in a plan",
}


def layer_targets(rows, limits):
    """The targets about convolution layers."""
    lines = []
    for own, how in LAYER_CALLS.items():
        single, double = {}, {}
        for row in rows:
            if not {own, "PyTorch"} <= row.timings.keys():
                continue
            where = f"{row.case}, batch {row.facts['batch']}, {threads_text(row.facts['threads'])}"
            if row.facts["dtype"] == "float64":
                double[where] = ratio(row, own, "PyTorch").median
                continue
            for stage in FORWARD_BACKWARD:
                single[f"{where}, {stage}"] = ratio(row, own, "PyTorch", stage).median
        if single:
            above, middle = sum(v > 1 for v in single.values()), statistics.geometric_mean(single.values())
            measured = f"worst {worst(single)}; {above} of {len(single)} above 1"
            lines.append([f"every GoogLeNet layer, {how}", "≤ 1.0 × PyTorch each", measured, verdict(above == 0)])
            lines.append(["their geometric mean", "≤ 0.6 × PyTorch", f"{middle:.2f}", verdict(middle <= 0.6)])
        if double:
            middle = statistics.geometric_mean(double.values())
            what = f"convolution in float64, forward + backward, geometric mean, {how}"
            lines.append([what, "≤ 0.5 × PyTorch", f"{middle:.2f}", verdict(middle <= 0.5)])
    shares, peak = {}, limits and limits.best("float32", 1)
    for row in rows:
        direct = f"{OWN} direct in a plan"
        deep = int(row.case.split("→")[0].split()[-1]) >= 16
        if direct in row.timings and peak and deep and (row.facts["threads"], row.facts["dtype"]) == (1, "float32"):
            rate = 2e-9 * row.facts["multiply_adds"] / timing(row, direct, "forward").median
            shares[f"{row.case}, batch {row.facts['batch']}"] = rate / peak
    if shares:
        low = min(shares, key=shares.get)
        measured = f"least {100 * shares[low]:.0f} % ({low}), median {100 * statistics.median(shares.values()):.0f} %"
        what = "direct float32 convolution forward, ≥ 16 channels, one thread"
        lines.append([what, "≥ 90 % of FMA peak", measured, verdict(shares[low] >= 0.9)])
    return lines


def verdict(met):
    return "yes" if met else "**no**"


def targets(sections, limits):
    """(what, target, measured, met) for every target of which this run measured all that it needs."""
    found = [*network_targets(sections), *layer_targets(sections.get("layers", ()), limits)]
    return [*found, *operator_targets(sections.get("operators", ())), *small_targets(sections)]


def network_targets(sections):
    """Those of GoogLeNet: inference, a training step, and its memory."""
    lines = []

    def add(what, target, measured, met):
        lines.append([what, target, measured, verdict(met)])

    for threads, batch in ((1, 1), (2, 1), (2, 16)):
        found = against_best(sections.get("inference", ()), threads, batch)
        if found:
            what = f"GoogLeNet inference, {threads_text(threads)}, batch {batch}"
            add(what, "≤ 0.65 × best peer", f"{times(found[0])} × {found[1]}", found[0].median <= 0.65)
    found = against_best(sections.get("training", ()), 2, 16)
    if found:
        add(
            "GoogLeNet training step, batch 16, 2 threads",
            "≤ 0.50 × best peer",
            f"{times(found[0])} × {found[1]}",
            found[0].median <= 0.5,
        )
    for row in sections.get("training", ()):
        if (row.facts["threads"], row.facts["batch"]) == (2, 16) and {OWN, "PyTorch"} <= row.memory.keys():
            share = row.memory[OWN]["peak"] / row.memory["PyTorch"]["peak"]
            add("its peak memory", "≤ 0.6 × PyTorch", f"{share:.2f}", share <= 0.6)
    return lines


def operator_targets(rows):
    """Those of poolings and activations, forward and backward together."""
    for what, ratios, most in (
        ("pooling and LRN", whole_ratios(rows, names=(*POOLINGS, "local_response_norm")), 0.33),
        ("activations", whole_ratios(rows, family="activation"), 0.8),
    ):
        if ratios:
            met = verdict(max(ratios.values()) <= most)
            yield [f"{what}, forward + backward", f"≤ {most} × PyTorch each", f"worst {worst(ratios)}", met]


def small_targets(sections):
    """Those of threads, of the import, and of calls on small arrays."""
    lines = []

    def add(what, target, measured, met):
        lines.append([what, target, measured, verdict(met)])

    for row in sections.get("scaling", ()):
        one, two = f"{OWN}, 1 thread", f"{OWN}, 2 threads"
        if row.facts["batch"] == 16 and {one, two} <= row.timings.keys():
            gain = ratio(row, one, two)
            add("2 threads against 1, batch 16", "≥ 1.85 ×", times(gain), gain.median >= 1.85)
    for row in sections.get("import", ()):
        if {OWN, "numpy"} <= row.timings.keys():
            more = 1e3 * (timing(row, OWN).median - timing(row, "numpy").median)
            add("import cnncore", "≤ numpy + 50 ms", f"numpy {more:+.0f} ms", more <= 50)
    calls = {}
    for row in sections.get("small", ()):
        if row.facts["peer"] == "named" and OWN in row.timings and peers_of(row):
            calls[row.case] = max(ratio(row, OWN, peers_of(row)[0], "call").median, calls.get(row.case, 0.0))
    if calls:
        add(
            "one call on 1×8×8×8",
            "≤ PyTorch's call",
            f"worst {worst(calls)}; {sum(v > 1 for v in calls.values())} of {len(calls)} above 1",
            max(calls.values()) <= 1,
        )
    return lines


# ── The whole ──────────────────────────────────────────────────────────────────────────────────────────────────────────


HOW_TO_READ = """\
Contestants run in separate processes and take turns, A B C A B C …; all but the current one are
stopped. A time is the median over the rounds, with quartiles. A ratio is computed within each
round, and its median and quartiles are given. All contestants of a comparison run on the same
processors, and their results were compared before (column error: the largest difference from
float64, relative to the largest value). Bold: the fastest peer."""


def page(sections, run, started, finished, facts=None):
    """The tables as one Markdown page; ``facts``: the machine that was measured, this one where they are not given."""
    facts = facts or machine.description()
    lines = [
        "# Benchmark",
        f"{started:%Y-%m-%d %H:%M} to {finished:%H:%M} UTC. "
        f"{facts['processor']}, {facts['processors']} processors, {facts['system']}.",
        HOW_TO_READ,
    ]
    if run.versions:
        shown = {name: " ".join(map(str, facts.values())) for name, facts in run.versions.items()}
        text = "Versions: " + "; ".join(f"{name} {text}" for name, text in shown.items()) + "."
        lines.append(textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False))
    limits = run.limits.table()
    if limits:
        head = ["limit", "threads", "best measured in this run", "from … to"]
        rows = [
            [
                r["what"] if r["what"] == "memory" else f"FMA peak, {r['what']}",
                r["threads"],
                f"{max(r['measured']):.1f} {r['unit']}",
                f"{min(r['measured']):.1f} – {max(r['measured']):.1f}",
            ]
            for r in limits
        ]
        lines += ["## Limits of the machine", table(head, rows), f"FMA peak: {run.limits.how}. Memory: copying 256 MB."]
    reached = targets(sections, run.limits)
    if reached:
        lines += ["## Targets", table(["what", "target", "measured", "met"], reached)]
    for name, rows in sections.items():
        if rows:
            lines += [f"## {name.capitalize()}", TABLES[name](rows, run.limits)]
    absent = [f"* {section}: {name}: {why}" for section, names in run.missing.items() for name, why in names.items()]
    if absent:
        lines += ["## Not timed", "\n".join(absent)]
    return "\n\n".join(lines) + "\n"


def as_data(sections, run, started, finished):
    """Everything measured, round by round, as plain data."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "machine": machine.description(),
        "limits": run.limits.table(),
        "peak_by": run.limits.how,
        "versions": run.versions,
        "sections": {
            name: [
                {
                    "case": row.case,
                    **row.facts,
                    "seconds": {who: {s: t.rounds for s, t in stages.items()} for who, stages in row.timings.items()},
                    "median_ratio": {p: ratio(row, OWN, p).median for p in peers_of(row) if OWN in row.timings},
                    "errors": row.errors,
                    "failures": row.failures,
                    "memory": row.memory,
                }
                for row in rows
            ]
            for name, rows in sections.items()
        },
        "not_timed": run.missing,
    }


def write(folder, sections, run, started):
    """Write results.json and results.md into ``folder``: after every row, so that an interrupted run leaves what it has."""
    finished = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(as_data(sections, run, started, finished), indent=1))
    (folder / "results.md").write_text(page(sections, run, started, finished))


# ── In the documentation ───────────────────────────────────────────────────────────────────────────────────────────────


class RecordedLimits:
    """The limits of a machine as a results file has them."""

    def __init__(self, rows, how):
        self.rows, self.how = rows, how

    def table(self):
        """All measurements as plain data."""
        return self.rows

    def best(self, what, threads):
        """The best that was measured, or None."""
        rows = [row for row in self.rows if (row["what"], row["threads"]) == (what, threads)]
        return max((number for row in rows for number in row["measured"]), default=None)


def from_data(data):
    """(sections, run, started, finished, facts of the machine), as :func:`page` takes them, from :func:`as_data`'s data."""
    known = {"case", "seconds", "median_ratio", "errors", "failures", "memory"}
    sections = {
        name: [
            Row(
                section=name,
                case=row["case"],
                facts={key: value for key, value in row.items() if key not in known},
                timings={who: {s: Timing(r) for s, r in stages.items()} for who, stages in row["seconds"].items()},
                errors=row["errors"],
                failures=row["failures"],
                memory=row["memory"],
            )
            for row in rows
        ]
        for name, rows in data["sections"].items()
    }
    limits = RecordedLimits(data["limits"], data.get("peak_by", "how was not recorded"))
    run = SimpleNamespace(limits=limits, versions=data["versions"], missing=data["not_timed"])
    times_of_run = (datetime.fromisoformat(data[name]) for name in ("started", "finished"))
    return sections, run, *times_of_run, data["machine"]


def into_page(path, name, text):
    """Put ``text`` between the marks ``<!-- begin NAME … -->`` and ``<!-- end NAME -->`` of a page."""
    before = path.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- begin {name}\b[^>]*-->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if len(marks.findall(before)) != 1:
        raise SystemExit(f"{path}: expected one pair of marks <!-- begin {name} --> and <!-- end {name} -->")
    path.write_text(marks.sub(lambda mark: f"{mark[1]}\n{text.strip()}\n\n{mark[2]}", before), encoding="utf-8")


def write_docs(results, path):
    """Put the tables of a results file into the documentation."""
    text = page(*from_data(json.loads(results.read_text(encoding="utf-8"))))
    _, _, body = text.partition("\n\n")  # without its title
    into_page(path, "benchmark", re.sub(r"^##", "###", body, flags=re.MULTILINE))
