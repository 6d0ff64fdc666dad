// What the agents dialog knows: drafts that are not saved yet, and the calls that save them.
import { kept } from './dom.js';
import { call } from './http.js';
import { reloadModels } from './models.js';
import { state } from './store.js';

export const NEW = 'new';
const FIELDS = ['name', 'description', 'instructions', 'picture', 'parameters', 'models', 'needs', 'starters', 'tools', 'limits', 'plan', 'strict'];
const EMPTY = { name: '', description: '', instructions: '', picture: '', parameters: {}, models: [], needs: [], starters: [], tools: [], limits: { rounds: 20, tokens: 200000, minutes: 30, result_chars: 32000 }, plan: 'auto', strict: true };
const drafts = new Map(); // what the disk does not take is at least kept as long as the page
const others = new BroadcastChannel('desk.agents');
others.onmessage = () => { reloadModels().catch(() => { /* the pulse says that nobody answers */ }); };

export const path = (id) => `agents/${encodeURIComponent(id)}`;
export const agentOf = (id) => state.agents?.find((agent) => agent.id === id) ?? null;
export const plain = (agent) => structuredClone(Object.fromEntries(FIELDS.map((name) => [name, agent[name]])));

// Nothing is nothing, whether it is null or left out.
const bare = (value) => JSON.stringify(value, (key, each) => (each === null ? undefined : each));
export const same = (one, other) => FIELDS.every((name) => bare(one[name]) === bare(other[name]));

// The draft on the disk or in the page: {draft, version}; null if all is saved.
function found(id) {
  if (drafts.has(id)) return drafts.get(id);
  try {
    const read = JSON.parse(kept.get(`agent.${id}`));
    // One from before there were plans is as good as any.
    const draft = read?.draft && { plan: 'auto', ...read.draft };
    return draft && FIELDS.every((name) => name in draft) ? { ...read, draft } : null;
  } catch { return null; }
}

export const unsaved = (id) => found(id) !== null;

// What is shown for an agent: its draft, or itself as it is. `version` is the one that was seen.
export function draftOf(id) {
  const mine = found(id);
  if (mine) return structuredClone(mine);
  const agent = agentOf(id);
  return { draft: agent ? plain(agent) : structuredClone(EMPTY), version: agent?.version ?? 0 };
}

// Returns whether there is something to save.
export function keep(id, draft, version) {
  const agent = agentOf(id);
  if (same(draft, agent && agent.version === version ? agent : id === NEW ? EMPTY : {})) { forget(id); return false; }
  drafts.set(id, structuredClone({ draft, version }));
  kept.set(`agent.${id}`, JSON.stringify({ draft, version }));
  return true;
}

export function forget(id) {
  drafts.delete(id);
  kept.set(`agent.${id}`, null);
}

async function changed(request) {
  const told = await request();
  await reloadModels();
  others.postMessage('changed');
  return told;
}

export const create = (draft) => changed(() => call('POST', 'agents', draft));
export const save = (id, draft, version) => changed(() => call('PUT', path(id), { draft, version }));
export const copy = (id) => changed(() => call('POST', `${path(id)}/copy`));
export const remove = (id) => changed(() => call('DELETE', path(id)));
export const restore = (id, version) => changed(() => call('POST', `${path(id)}/restore`, { version }));
export const takeIn = (saved) => changed(() => call('POST', 'agents/import', saved));
export const refresh = () => reloadModels();
