// cnncore in the page: Pyodide, numpy and the wheel are loaded when first asked for, from the folder engine/ beside this file.
let loading;

/** A function that asks cnncore.explorers a question and returns the answer; `report` is told what is being loaded. */
export function engine(report = () => {}) {
  loading ??= load(report).catch((error) => {
    loading = undefined; // the next one who asks tries again
    throw error;
  });
  return loading;
}

const BEGIN = `
import json
from cnncore.explorers import Answers, Switches

answers = Answers()

def with_digits(file):
    """A trained net for the explorer of branches: 200 held-out digits to classify, 20 of each class, and others to train on."""
    import cnncore
    from cnncore.train.data import digits_split
    train, held_out = digits_split()
    shown = [100 * (i % 10) + i // 10 for i in range(200)]
    x, labels = next(iter(held_out.batches(len(held_out))))
    order = sorted(range(len(labels)), key=lambda i: (labels[i], i))
    chosen = [order[i] for i in shown]
    others = next(iter(train.batches(len(train))))
    answers.switches = Switches(cnncore.load(file), x[chosen], labels[chosen], pixels=held_out.images[chosen], training=others)

def answer(request):
    asked = json.loads(request)
    if asked["question"] in ("branches", "accuracy", "train") and answers.switches is None:
        with_digits("/digits.model")
    return json.dumps(answers.answer(**asked))

answer
`;

async function bytes(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function load(report) {
  const base = new URL("engine/", import.meta.url);
  report("Loading Python …");
  const { loadPyodide } = await import(new URL("pyodide.mjs", base));
  const { wheels, model } = JSON.parse(new TextDecoder().decode(await bytes(new URL("files.json", base))));
  const files = [...wheels, model].map((name) => bytes(new URL(name, base))); // while Python starts
  const pyodide = await loadPyodide({ indexURL: base.href });
  for (const [i, name] of wheels.entries()) {
    report(`Loading ${name.split("-")[0]} …`);
    pyodide.unpackArchive(await files[i], "wheel");
  }
  pyodide.FS.writeFile("/digits.model", await files[wheels.length]);
  report("Starting cnncore …");
  await new Promise((resolve) => setTimeout(resolve, 20)); // to let the page show this
  const answer = pyodide.runPython(BEGIN, { globals: pyodide.toPy({}) });
  const ask = (question, request = {}) => JSON.parse(answer(JSON.stringify({ question, ...request })));
  ask.run = (code) => run(pyodide, code);
  return ask;
}

/** Run code as a prompt would, all examples of a page in the same namespace: what it prints, and the value of its last line. */
function run(pyodide, code) {
  const lines = [];
  pyodide.setStdout({ batched: (line) => lines.push(line) });
  pyodide.setStderr({ batched: (line) => lines.push(line) });
  const globals = (run.globals ??= pyodide.toPy({ __name__: "__main__" }));
  try {
    pyodide.runPython(SHOW, { globals }).callKwargs(code, globals, {});
  } catch (error) {
    lines.push(error.message.trim().split("\n").at(-1));
  }
  return lines.join("\n");
}

// Statement by statement, as a prompt does: the value of every expression is printed unless it is None.
const SHOW = `
def _show(code, names):
    import ast
    for statement in ast.parse(code).body:
        exec(compile(ast.Interactive([statement]), "<example>", "single"), names)
_show
`;
