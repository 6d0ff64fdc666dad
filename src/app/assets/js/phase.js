// The line under the answer being written: what it waits for, how long still, and how to end it.
import { $, h, seconds, setText } from './dom.js';
import { stop } from './composer.js';
import { eject } from './loading.js';
import { on, state, STILL } from './store.js';

// Here a job of the server knows more than the answer's own events do.
const WAITING = new Set(['queued', 'loading', 'unloading']);

export async function startPhase() {
  await window.desk.part('phase');
  $('#stuck').append(
    h('button', { type: 'button', class: 'button small', onclick: stop }, 'Cancel'),
    h('button', { type: 'button', class: 'button small', onclick: () => eject(jobNow()?.model_id, { mine: state.chatId }) }, 'Eject'));
  on('live', paint);
  on('offline', paint);
  on('jobs', paint);
  setInterval(paintSeconds, 500);
}

const jobNow = () => (state.live && !state.offline && state.jobs.find((job) => job.id === state.live.job_id)) || null;

function paint() {
  const line = $('#phase-line');
  if (!line) return;
  const live = state.live;
  // While it thinks, the open thought itself counts the seconds.
  const told = live?.phase === 'thinking' && !state.stopping && !state.offline && !still() && $('#live .thought-group');
  line.hidden = Boolean(told) || (!live && !state.sending);
  paintStill();
  if (line.hidden) return;
  line.classList.toggle('writing', live?.phase === 'writing');
  setText($('.words', line), [live?.notice, words(live)].filter(Boolean).join(' '));
  setText($('.speed', line), live?.speed && !state.offline ? `${live.speed} tok/s` : '');
  paintSeconds();
}

function words(live) {
  if (state.offline) return "Waiting for LM Desk's server";
  if (state.stopping) return 'Stopping';
  const job = jobNow();
  if (job && WAITING.has(live.phase) && WAITING.has(job.phase)) return job.words;
  return live?.words ?? (state.checking ? 'Checking the memory' : 'Sending');
}

function paintSeconds() {
  const line = $('#phase-line');
  if (!line || line.hidden) return;
  const age = state.live && !state.offline ? (Date.now() - state.live.since) / 1000 : 0;
  const load = state.live?.phase === 'loading' && !state.stopping ? jobNow() : null;
  const late = load?.late ? ', longer than the last time' : '';
  setText($('.seconds', line), load?.left ?? (age >= 1 ? `${seconds(age)}${late}` : ''));
}

// Seconds in which nothing has moved, once they are too many.
function still() {
  const job = jobNow();
  if (job?.waits_for) return 0; // for the person, who may take their time
  const count = job ? (job.still ?? 0) + (Date.now() - job.seenAt) / 1000 : 0;
  return count >= STILL && !state.stopping ? count : 0;
}

function paintStill() {
  const count = still();
  const place = $('#stuck');
  const first = place.hidden && count > 0;
  place.hidden = !count;
  if (!count) return;
  setText($('.words', place), `Nothing has moved for ${seconds(count)}.`);
  const model = state.models?.find((each) => each.full_name === jobNow().model_id);
  $('button:last-child', place).hidden = !model?.loaded || !model.loadable;
  if (first) setText($('#announce'), `Nothing has moved for ${seconds(count)}.`);
}
