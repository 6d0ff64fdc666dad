// What LM Studio's own TypeScript client sees of a server: printed as one line of JSON.
import { LMStudioClient } from '@lmstudio/sdk';

const [address, key] = process.argv.slice(2);
const client = new LMStudioClient({ baseUrl: address, verboseErrorMessages: false });
const names = (models) => models.map((model) => model.identifier);

const downloaded = (await client.system.listDownloadedModels()).map((model) => model.modelKey);
const progress = [];
const model = await client.llm.load(key, {
  config: { contextLength: 512 }, verbose: false, onProgress: (value) => progress.push(value),
});
const loaded = names(await client.llm.listLoaded());
const context = await model.getContextLength();

let text = '';
let pieces = 0;
const prediction = model.respond([{ role: 'user', content: 'Hi.' }], { maxTokens: 40 });
for await (const piece of prediction) { text += piece.content; pieces += 1; }
const { stats } = await prediction.result();
const tokens = await model.countTokens('Hello there');

await model.unload();
const left = names(await client.llm.listLoaded());
const refusal = await client.llm.load('no-such-model', { verbose: false }).then(() => null, (error) => error.message);

console.log(JSON.stringify({
  downloaded, progress, loaded, context, text, pieces, stop: stats.stopReason, tokens, left, refusal,
}));
process.exit(0);
