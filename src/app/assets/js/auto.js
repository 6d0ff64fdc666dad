// Auto: shows which model the question being written would go to, and why, before it is sent.
import { $, h } from './dom.js';
import { call } from './http.js';
import { on, state } from './store.js';

export const AUTO = 'auto';
export const isAuto = () => state.model === AUTO;

const PAUSE = 500; // after the last key, so that typing asks nobody
let timer = 0;
let shown = null;  // {key, view} or {key, problem}

export async function startAuto() {
  await window.desk.part('composer');
  $('#message').addEventListener('input', soon);
  on('picked', soon);
  on('models', () => { shown = null; soon(); });
}

// Where the question would go now. Raises what keeps it from going anywhere.
export const preview = (content) => call('POST', 'routing/preview', { content: content.slice(0, 20000), agent_id: state.agent });

function soon() {
  clearTimeout(timer);
  if (isAuto()) timer = setTimeout(look, PAUSE);
}

async function look() {
  const content = $('#message').value;
  const key = JSON.stringify([content, state.agent]);
  if (shown?.key === key) return;
  try {
    shown = { key, view: await preview(content) };
  } catch (problem) {
    if (problem.offline) return;
    shown = { key, problem };
  }
  const place = $('#auto-card');
  if (place) place.replaceWith(autoCard());
}

export function autoCard() {
  if (!shown) soon();
  return h('div', { id: 'auto-card', class: 'auto' },
    h('h3', {}, 'Auto'),
    h('p', { class: 'note' }, 'Each question goes to the model that suits it: by its task, by what is in memory, and by how fast each was here.'),
    h('div', { role: 'status' }, shown?.view ? told(shown.view) : shown?.problem ? h('p', { class: 'note bad' }, `${shown.problem.message} ${shown.problem.hint ?? ''}`) : h('p', { class: 'note' }, 'Looking at the models')));
}

function told(view) {
  return [
    h('p', { class: 'next' }, 'Next: ', h('b', {}, view.name), view.loaded ? '' : ', loaded with your message'),
    h('p', { class: 'note' }, `For ${view.task}${view.task_reasons.length ? ` (${view.task_reasons.join(', ')})` : ''}`),
    h('ul', {}, view.reasons.map((reason) => h('li', {}, reason))),
    others(view)];
}

function others(view) {
  const lines = [
    ...view.behind.map((each) => h('li', {}, `${each.name}: next in line with ${each.points} points`)),
    ...view.passed_over.map((each) => h('li', {}, `${each.name}: ${each.reason}`))];
  return lines.length ? h('details', {}, h('summary', {}, `${lines.length} other${lines.length > 1 ? 's' : ''}`), h('ul', {}, lines)) : null;
}
