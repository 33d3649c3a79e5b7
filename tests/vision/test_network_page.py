"""The page of ``cnncore explain``: its numbers are those of the engine, and it needs nothing but itself."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import cnncore
from cnncore import GraphError, SettingError, ShapeError
from cnncore.train.data import digits_split
from cnncore.vision.network_page import page, write_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def block_net():
    """What small_inception has not: strides and groups, a residual connection, other normalisations, linear layers."""
    g = cnncore.Graph()
    h = g.conv(
        g.input(channels=3, size=12), 8, kernel_size=3, stride=2, padding="same_upper", activation="relu", name="stem"
    )
    h = g.local_response_norm(g.add(g.conv(h, 8, kernel_size=3, padding=1, groups=4, name="grouped"), h), size=3)
    h = g.avg_pool(g.depthwise_conv(h, kernel_size=3, padding=1, name="depthwise"), kernel_size=2, name="pool")
    g.output(g.softmax(g.linear(g.linear(g.flatten(h), 12, activation="relu", name="hidden"), 10, name="scores")))
    return g.build(seed=1)


def explained(net, size, channels, **options):
    """(net, data in the page, the page) of a network with initial weights on a random image."""
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3) if channels == 3 else (size, size), np.uint8)
    planes = np.moveaxis(pixels, -1, 0) if channels == 3 else pixels[None]
    text = page(net, (planes[None] / 255).astype(np.float32), pixels, **options)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1)
    return net, json.loads(data), text


@pytest.fixture(scope="module", params=["small_inception", "blocks"])
def made(request):
    """Networks with branches, residual connections and groups, and with linear layers at the end."""
    if request.param == "blocks":
        return explained(block_net(), 12, 3)
    return explained(cnncore.models.small_inception(seed=1), 16, 1)


def test_the_sums_of_linear_nodes_are_their_outputs(made):
    net, data, _ = made
    checked = 0
    for node in data["nodes"][1:]:
        for cell in node.get("cells", ()):
            if not cell["linear"]:
                continue
            shown = sum(
                sum(w["sum"] for w in part.get("windows", ()))
                + sum(t["product"] for t in part.get("terms", ()))
                + part["others_sum"]
                for part in cell["parts"]
            )
            size = max(abs(cell["y"]), *(abs(w["sum"]) for p in cell["parts"] for w in p.get("windows", [{"sum": 0}])))
            assert abs(shown + cell["rest"] - cell["y"]) <= 0.02 * size + 1e-6, (node["path"], cell)
            b = f"{node['path']}.b"
            if node["operator"] in ("conv", "linear", "depthwise_conv"):  # what does not depend on x is the bias
                bias = float(net.parameters[b][cell["index"][0]]) if b in net.parameters else 0.0
                assert abs(cell["rest"] - bias) <= 1e-3 * max(1.0, size), node["path"]
                checked += 1
    assert checked > 5


def test_windows_hold_the_weights(made):
    net, data, _ = made
    node = next(node for node in data["nodes"][1:] if node["operator"] == "conv" and node["shape"][1] > 1)
    w = net.parameters[f"{node['path']}.w"]
    for cell in node["cells"]:
        for window in cell["parts"][0]["windows"]:
            factors = np.array(window["slope"], float)  # padding is None, NaN here
            inside = ~np.isnan(factors)
            np.testing.assert_allclose(
                factors[inside], w[cell["index"][0], window["channel"]][inside], rtol=6e-3, atol=1e-6
            )


def test_only_normalising_nodes_reach_beyond_their_windows(made):
    """What is said of a receptive field holds: by windows, and of all places where a node normalises with statistics."""
    net, data, _ = made
    whole = {
        node["path"]
        for node in data["nodes"]
        for c in node.get("cells", ())
        if any(p.get("beyond") for p in c["parts"])
    }
    assert whole == {node.path for node in net.graph.nodes if node.op.name == "group_norm"}


def test_weights_have_their_own_shape(made):
    net, data, _ = made
    shown = {node["path"]: node["weights"] for node in data["nodes"] if "weights" in node}
    assert shown
    for path, weights in shown.items():
        assert tuple(weights["shape"]) == net.parameters[f"{path}.w"].shape
        assert weights["height"] * weights["width"] == weights["outputs"] * weights["inputs"] * np.prod(
            weights["shape"][2:]
        )


def test_an_empty_class_map_has_no_scale():
    """Where nothing is above 0 the page says so, instead of a black picture with the scale of another."""
    g = cnncore.Graph()
    h = g.conv(g.input(channels=1, size=8), 2, kernel_size=3, name="maps")
    g.output(g.linear(g.global_avg_pool(g.relu(h, name="rectified")), 2, name="scores"))
    net = g.build(seed=0)
    net.parameters["scores.w"] = -np.ones((2, 2), np.float32)
    _, data, _ = explained(net, 8, 1)
    (node,) = (node for node in data["nodes"] if node["path"] == "rectified")
    assert node["maps"]["high"] > 0 and node["cam"] is None


def test_every_node_is_in_the_graph_and_in_the_data(made):
    net, data, text = made
    assert [node["path"] for node in data["nodes"]] == list(net.graph.names)
    values = {int(v) for v in re.findall(r'class="(?:node|strip)" data-value="(\d+)"', text)}
    assert values == set(range(len(net.graph.names)))
    assert all("gradients" in node for node in data["nodes"] if "maps" in node)


def test_the_page_needs_nothing_else(made):
    text = made[2].replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in text and "https:" not in text and "@import" not in text
    assert not re.search(r"""(src|href)\s*=\s*['"](?!data:|#)""", text)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": 10}, SettingError, "target must be an integer from 0 to 9, got 10"),
        ({"images": 2}, ShapeError, "expected one image"),
        ({"inputs": 2}, GraphError, "must take one image"),
    ],
)
def test_bad_input(change, error, message):
    net = cnncore.models.lenet(seed=0)
    if "inputs" in change:
        g = cnncore.Graph()
        g.output(g.add(g.input(channels=1, name="a"), g.input(channels=1, name="b")))
        net = g.build()
    x = np.zeros((change.get("images", 1), 1, 32, 32), np.float32)
    with pytest.raises(error, match=message):
        page(net, x, np.zeros((28, 28), np.uint8), target=change.get("target"))


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_in_a_browser(tmp_path):
    """The script runs without errors and shows the node that the address names."""
    net = cnncore.models.small_inception(seed=0)
    image = digits_split()[1].images[7]
    write_page(tmp_path / "page.html", net, (image[None, None] / 255).astype(np.float32), image)
    address = (tmp_path / "page.html").as_uri()
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{address}#node=inception_1%2Fconcat"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    panel = done.stdout.partition('id="panel"')[2]
    assert "<h3>inception_1/concat</h3>" in panel and "Gradient maps" in panel
