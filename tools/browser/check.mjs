// node check.mjs FOLDER WHEEL…: cnncore in Pyodide. FOLDER has node_modules/pyodide, the wheels, and native.npz.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [folder, ...wheels] = process.argv.slice(2);
const seconds = (begin) => ((performance.now() - begin) / 1000).toFixed(1);
const bytes = (file) => new Uint8Array(readFileSync(file));
const begin = performance.now();
const { loadPyodide } = await import(pathToFileURL(join(folder, "node_modules", "pyodide", "pyodide.mjs")));
const pyodide = await loadPyodide({ stdout: console.log, stderr: console.error });
for (const wheel of wheels) pyodide.unpackArchive(bytes(join(folder, wheel)), "wheel");
pyodide.runPython("import cnncore");
const version = pyodide.runPython("cnncore.__version__");
console.log(`cnncore ${version}, Pyodide ${pyodide.version}: imported ${seconds(begin)} s after the start`);
pyodide.FS.writeFile("/native.npz", bytes(join(folder, "native.npz")));
pyodide.FS.writeFile("/check.py", readFileSync(join(dirname(fileURLToPath(import.meta.url)), "check.py")));
process.exit(pyodide.runPython("import sys; sys.path.insert(0, '/'); import check; check.check('/native.npz')") ? 0 : 1);
