// Standard JSON in on stdin, standard JSON out on stdout: all that is needed of solc-js.
// Imports that are not among the given sources are read from node_modules.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import solc from "solc";

const modules = join(import.meta.dirname, "node_modules");

function readImport(path) {
  try {
    return { contents: readFileSync(join(modules, path), "utf8") };
  } catch {
    return { error: `not found: ${path}` };
  }
}

process.stdout.write(solc.compile(readFileSync(0, "utf8"), { import: readImport }));
