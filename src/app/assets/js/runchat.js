// Runs in the chat: the timeline above the answer being written, folded under the finished ones.
import { $$, appear, h, isPhone, setText } from './dom.js';
import { focusBox } from './composer.js';
import { call } from './http.js';
import { timeline } from './runview.js';
import { scrollToEnd, watchGrowth } from './scroll.js';
import { on, state } from './store.js';

const EVERY = 700;
const costs = new Map();
const opened = new Set();
let place = null;
let following = null; // {id, view}
let timer = 0;

export async function startRunChat() {
  const live = await appear('#live');
  place = h('section', { id: 'run-live', 'aria-label': 'Run under way', hidden: true });
  live.before(place);
  watchGrowth(place);
  on('live', onLive);
  on('rows', readCosts);
  onLive();
}

function onLive() {
  const id = state.live?.run ? state.live.job_id : null;
  if (id === (following?.id ?? null)) return;
  // The finished answer takes over; until it stands there, the timeline stays.
  clearTimeout(timer);
  following?.view.leave();
  following = null;
  place.hidden = true;
  place.removeAttribute('data-calls');
  place.replaceChildren();
  if (!id) return;
  const view = timeline({ chat: true, changed: () => look(), home: goOn });
  following = { id, view };
  place.replaceChildren(view.node);
  look();
}

// All is decided: back to the box, and along with what is written.
function goOn() {
  scrollToEnd({ stick: true });
  if (!isPhone()) focusBox();
}

async function look() {
  clearTimeout(timer);
  const mine = following;
  if (!mine) return;
  try {
    const { run } = await call('GET', `runs/${encodeURIComponent(mine.id)}/live`);
    if (mine !== following) return;
    if (run) {
      place.hidden = false;
      mine.view.update(run);
      // Words that led to calls stand in the timeline, and need not be said twice.
      place.toggleAttribute('data-calls', Boolean(run.steps.at(-1)?.calls.length));
    }
  } catch (problem) { if (!problem.offline) console.error(problem); }
  if (mine === following) timer = setTimeout(look, EVERY);
}

// Under an answer: what the work cost, and the timeline behind it.
export function runLine(facts) {
  const id = facts.run;
  const fold = h('div', { class: 'fold', hidden: true });
  const button = h('button', { type: 'button', class: 'run-fold', 'data-run': id, 'aria-expanded': 'false', onclick: () => {
    fold.hidden = !fold.hidden;
    button.setAttribute('aria-expanded', String(!fold.hidden));
    if (fold.hidden) opened.delete(id); else { opened.add(id); unfold(fold, id); }
  } }, costs.get(id) ?? 'Tools were used');
  if (opened.has(id)) { fold.hidden = false; button.setAttribute('aria-expanded', 'true'); unfold(fold, id); }
  return h('div', { class: 'run-line' }, button, fold);
}

async function unfold(fold, id) {
  if (fold.childElementCount) return;
  const said = fold.appendChild(h('p', { class: 'note', role: 'status' }, 'Looking it up…'));
  try {
    const { run } = await call('GET', `runs/${encodeURIComponent(id)}/live`);
    if (!run) { setText(said, 'This run was deleted.'); return; }
    const view = timeline({ chat: true });
    view.update(run);
    fold.replaceChildren(view.node);
  } catch (problem) { setText(said, `${problem.message} ${problem.hint ?? ''}`); }
}

async function readCosts() {
  const chatId = state.chatId;
  if (!chatId || !state.rows.some((row) => row.run && !costs.has(row.run))) return;
  try {
    const { runs } = await call('GET', `runs?limit=200&chat_id=${encodeURIComponent(chatId)}`);
    for (const run of runs) if (!run.running) costs.set(run.id, run.plan ? `${run.cost} · plan ${run.plan}` : run.cost);
  } catch { return; } // the words without figures stay
  for (const button of $$('.run-fold')) setText(button, costs.get(button.dataset.run) ?? button.textContent);
}
