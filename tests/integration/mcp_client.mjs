// What the official TypeScript SDK sees of our MCP server: printed as one line of JSON.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [how, heard, ...where] = process.argv.slice(2);
const client = new Client({ name: 'test', version: '1' });
const transport = how === 'http'
  ? new StreamableHTTPClientTransport(new URL(where[0]))
  : new StdioClientTransport({ command: where[0], args: where.slice(1), env: process.env, stderr: 'ignore' });
await client.connect(transport);

const tools = (await client.listTools()).tools.map((tool) => tool.name);
const models = (await client.callTool({ name: 'list_models', arguments: {} })).structuredContent;
const refused = await client.callTool({ name: 'chat_completion', arguments: { prompt: 'Hi', model: 'nobody' } });
const progress = [];
const loaded = await client.callTool(
  { name: 'load_model', arguments: { model: 'phi-4', wait_s: 20 } }, undefined,
  { onprogress: (told) => { progress.push(told.message); fetch(heard); } });

const abort = new AbortController();
setTimeout(() => abort.abort(), 300);
let aborted = false;
try {
  await client.callTool({ name: 'chat_completion', arguments: { prompt: 'Hi', model: 'slow' } }, undefined, { signal: abort.signal });
} catch { aborted = true; }
await client.ping(); // behind the word that the call is off
await client.close();

console.log(JSON.stringify({
  tools, models: models.result ?? models, refused: refused.isError, words: refused.content[0].text, progress,
  loaded: (loaded.structuredContent.result ?? loaded.structuredContent).status, aborted,
}));
