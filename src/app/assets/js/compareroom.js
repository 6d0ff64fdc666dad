// Before a comparison: models of its own make room for each other by themselves; others only if you say so.
import { call } from './http.js';
import { begin } from './loading.js';
import { state } from './store.js';
import { decide } from './swap.js';

// Whether to go on.
export async function makeRoom(columns) {
  const names = [...new Set(columns.map((each) => each.model_id))];
  for (const name of names) {
    if (!await needsOthersGone(name, names)) continue;
    const decision = await decide(name);
    if (decision.act === 'cancel') return false;
    if (decision.act === 'swap') await begin(name, decision);
    return true; // the rest is found out when it is their turn
  }
  return true;
}

async function needsOthersGone(name, names) {
  const model = state.models?.find((each) => each.full_name === name);
  if (!model?.loadable || model.loaded) return false;
  try {
    const plan = await call('GET', `models/plan?model_id=${encodeURIComponent(name)}`, undefined, { timeout: 8000 });
    return !plan.loaded && plan.unload.some((each) => !names.includes(each));
  } catch { return false; } // the load itself says what is wrong
}
