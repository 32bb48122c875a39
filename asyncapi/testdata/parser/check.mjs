// node check.mjs FILE ...: what the parser of the AsyncAPI project says of each document.
// The exit code is 1 where one has an error; warnings and hints are printed alone.
import { readFile } from 'node:fs/promises';
import { Parser } from '@asyncapi/parser';

const severities = ['error', 'warning', 'information', 'hint'];
const parser = new Parser();
let failed = false;
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(await readFile(file, 'utf8'));
  const errors = diagnostics.filter((d) => d.severity === 0);
  for (const d of diagnostics) {
    console.log(`${file}: ${severities[d.severity]}: ${d.path.join('/')}: ${d.message}`);
  }
  if (!document || errors.length > 0) {
    failed = true;
  } else {
    console.log(`${file}: ok, ${document.operations().length} operations, ${document.allMessages().length} messages`);
  }
}
process.exitCode = failed ? 1 : 0;
