// Putting models into memory and out of it: loads, swaps, cancelling, ejecting.
import { call } from './http.js';
import { state, tell } from './store.js';
import { decide } from './swap.js';
import { fail } from './toasts.js';

const watched = new Set(); // loads this tab asked for: how they failed is told here
let refresh = async () => {};
let deciding = false;

export function startLoading(reloadModels) { refresh = reloadModels; }

export async function load() {
  if (deciding) return;
  deciding = true;
  try {
    const name = state.model;
    const decision = await decide(name);
    if (decision.act !== 'cancel') watched.add((await begin(name, decision)).id);
  } catch (problem) { fail(problem); } finally { deciding = false; }
  tell('jobs');
}

// Starts what was decided. The page shows the job at once, before the next pulse has it.
export async function begin(name, { act, unload, when }) {
  const job = act === 'swap'
    ? await call('POST', 'models/swap', { model_id: name, unload, when })
    : await call('POST', 'models/load', { model_id: name });
  const shown = { id: job.id, kind: 'load', model_id: name, phase: job.phase, progress: job.progress, words: 'Loading the model', age: 0, seenAt: Date.now() };
  state.jobs = [...state.jobs.filter((each) => each.id !== job.id), shown];
  tell('jobs');
  tell('hurry');
  return job;
}

export async function cancelLoad(job) {
  try {
    await call('POST', `jobs/${job.id}/stop`, undefined, { timeout: 60000 });
  } catch (problem) { if (problem.code !== 'job_not_found') fail(problem); }
  tell('hurry');
}

async function look() {
  try { await refresh(); } catch { /* the pulse reloads the list */ }
}

// Takes a model out of memory. One that is answering asks first, unless only `mine` is hit.
export async function eject(name, { force = false, mine = null } = {}) {
  if (state.unloading) return;
  state.unloading = name;
  tell('jobs');
  try {
    await call('POST', 'models/unload', { model_id: name, force }, { timeout: 120000 });
  } catch (problem) {
    state.unloading = null; // before it is offered to insist: that may be clicked at once
    tell('jobs');
    const used = problem.code === 'model_in_use';
    const insist = () => eject(name, { force: true });
    if (used && mine && (problem.chats ?? []).every((chat) => chat === mine)) await insist();
    else fail(problem, { action: used ? { label: 'Stop and unload', act: insist } : null });
    await look();
    return;
  }
  await look();
  state.unloading = null;
  tell('jobs');
  tell('hurry');
}

// Loads asked for here that are not running any more.
export async function settle() {
  for (const id of watched) {
    if (state.jobs.some((job) => job.id === id)) continue;
    watched.delete(id);
    try {
      const job = await call('GET', `jobs/${id}`);
      if (job.state === 'failed' && job.error) fail(job.error);
    } catch { /* ended too long ago to say */ }
  }
}
