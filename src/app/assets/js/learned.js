// What this machine learned: load time, memory and speed of every model, side by side, and benchmarks.
import { $, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { modelNow, on, state, tell } from './store.js';
import { fail } from './toasts.js';

const EVERY = 400;
const SVG = 'http://www.w3.org/2000/svg';
const COLUMNS = [
  { key: 'load', label: 'Load time', least: true },
  { key: 'memory', label: 'Memory', least: true },
  { key: 'reading', label: 'Reads tok/s' },
  { key: 'writing', label: 'Writes tok/s' },
];
let dialog = null;
let timer = 0;
let rows = null;
let job = null; // the benchmark on show: {job_id, model_id, state, progress, words, hint}
let sorted = { key: 'last_at', down: true };

export async function startLearned() {
  await window.desk.part('inspector');
  $('#model-card').after(h('button', { type: 'button', class: 'button small learned-open', id: 'learned', 'aria-haspopup': 'dialog', onclick: openLearned }, 'What this machine learned'));
  for (const news of ['models', 'picked', 'offline', 'jobs']) on(news, paintNow);
}

export function openLearned() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(h('dialog', { class: 'sheet learned', 'aria-labelledby': 'learned-title' },
    h('div', { class: 'head' }, h('h2', { id: 'learned-title' }, 'What this machine learned'), iconButton('close', 'Close', () => own.close())),
    h('div', { class: 'inner' },
      h('p', { class: 'said' }, 'Measured with every load and answer here, and kept. Each figure is the middle of the last ones.'),
      h('div', { class: 'now' }),
      h('div', { class: 'rows' }, h('p', { class: 'note', role: 'status' }, 'Looking it up…')))));
  dialog = own;
  rows = null;
  const running = state.jobs.find((each) => each.kind === 'benchmark');
  job = running ? { job_id: running.id, model_id: running.model_id, state: 'running', progress: null, words: running.stage ?? 'Under way', hint: '' } : null;
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    own.remove();
    dialog = null;
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  paintNow();
  reload(own);
  if (job) follow(own);
}

async function reload(own) {
  try {
    const found = await call('GET', 'models/learned');
    if (own !== dialog) return;
    rows = found;
    paintRows();
  } catch (problem) {
    if (own === dialog && !rows) $('.rows', own).replaceChildren(h('p', { class: 'note', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`));
  }
}

// The benchmark of the model that is picked

const nameOf = (id) => state.models?.find((model) => model.full_name === id)?.name ?? id;

function paintNow() {
  if (!dialog) return;
  const place = $('.now', dialog);
  const going = job?.state === 'running';
  const model = modelNow();
  const able = model && model.kind === 'llm' && !state.offline;
  const key = JSON.stringify([going, job?.job_id, job?.state, model?.full_name, able]);
  if (place.dataset.key !== key) {
    const focused = place.contains(document.activeElement);
    place.dataset.key = key;
    place.replaceChildren(...(going ? moving() : still(model, able)).filter(Boolean));
    if (focused) ($('button:not(:disabled)', place) ?? $('.head button', dialog)).focus();
  }
  if (going) {
    setText($('.words', place), job.words);
    const bar = $('.bar', place);
    const known = job.progress !== null && job.progress !== undefined;
    bar.classList.toggle('unknown', !known);
    if (known) bar.setAttribute('aria-valuenow', String(Math.round(job.progress * 100)));
    else bar.removeAttribute('aria-valuenow');
    $('b', bar).style.width = `${(job.progress ?? 0) * 100}%`;
  }
}

function still(model, able) {
  const ended = job && job.state !== 'running';
  return [
    h('span', { class: 'what' }, h('b', {}, model?.name ?? 'No model is picked'),
      h('small', { role: ended ? 'status' : null, class: job?.state === 'failed' ? 'bad' : null },
        ended ? `${job.words} ${job.hint}`.trim() : model?.kind === 'embedding' ? 'It makes vectors: there is nothing to benchmark.' : 'Prompts of 512 and 2,048 tokens, and 128 written ones; about a minute.')),
    h('button', { type: 'button', class: 'button primary', disabled: !able, onclick: () => begin(model) }, 'Benchmark this model'),
  ];
}

function moving() {
  return [
    h('span', { class: 'what' }, h('b', {}, nameOf(job.model_id)), h('small', { class: 'words' })),
    h('button', { type: 'button', class: 'button', onclick: (event) => cancel(event.currentTarget) }, 'Cancel'),
    h('div', { class: 'bar', role: 'progressbar', 'aria-label': 'Benchmark', 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('b')),
  ];
}

async function begin(model) {
  const own = dialog;
  try {
    job = await call('POST', 'models/benchmark', { model_id: model.full_name });
  } catch (problem) {
    job = { job_id: '', model_id: model.full_name, state: 'failed', progress: null, words: problem.message, hint: problem.hint ?? '' };
  }
  tell('hurry');
  if (own !== dialog) return;
  paintNow();
  if (job.state === 'running') follow(own);
}

async function follow(own) {
  clearTimeout(timer);
  try {
    const told = await call('GET', `models/benchmark/${encodeURIComponent(job.job_id)}`);
    if (own !== dialog) return;
    job = told;
  } catch (problem) {
    if (own !== dialog) return;
    if (!problem.offline) job = { ...job, state: 'interrupted', words: 'The benchmark is over.', hint: '' };
  }
  paintNow();
  if (job.state === 'running') timer = setTimeout(() => follow(own), EVERY);
  else { tell('hurry'); reload(own); }
}

async function cancel(button) {
  const own = dialog;
  button.disabled = true;
  try {
    await call('POST', `jobs/${job.job_id}/stop`, undefined, { timeout: 60000 });
  } catch (problem) { if (problem.code !== 'job_not_found') fail(problem); }
  if (own === dialog) follow(own);
}

// The table

function paintRows() {
  const place = $('.rows', dialog);
  if (!rows.length) {
    place.replaceChildren(h('p', { class: 'note', role: 'status' }, 'Nothing yet. Load a model and ask it something, or benchmark it, and its figures stand here.'));
    return;
  }
  const best = Object.fromEntries(COLUMNS.map(({ key }) => [key, Math.max(...rows.map((row) => row[key].value ?? 0))]));
  const focused = document.activeElement?.closest?.('th')?.dataset.key;
  place.replaceChildren(h('table', {},
    h('caption', { class: 'sr' }, 'Load time, memory and speed by model and context'),
    h('thead', {}, h('tr', {}, heading('name', 'Model'), COLUMNS.map(({ key, label }) => heading(key, label)))),
    h('tbody', {}, inOrder().map((row) => h('tr', { class: row.model_id === state.model ? 'current' : null, 'aria-current': row.model_id === state.model ? 'true' : null },
      h('th', { scope: 'row' }, h('div', {}, h('b', {}, row.name), h('small', {}, row.facts), h('small', {}, [row.counts, ago(row.last_at)].filter(Boolean).join(' · ')),
        row.benchmark ? h('small', { class: 'bench' }, row.benchmark) : null)),
      COLUMNS.map((column) => cell(row[column.key], column, best[column.key])))))));
  if (focused) $(`th[data-key=${focused}] button`, place)?.focus();
}

function heading(key, label) {
  const mine = sorted.key === key;
  return h('th', { scope: 'col', 'data-key': key, 'aria-sort': mine ? (sorted.down ? 'descending' : 'ascending') : null },
    h('button', { type: 'button', onclick: () => sort(key) }, label, h('i', { 'aria-hidden': 'true' }, mine ? (sorted.down ? '↓' : '↑') : '')));
}

function sort(key) {
  const first = !['load', 'memory', 'name'].includes(key); // the best one first
  sorted = { key, down: sorted.key === key ? !sorted.down : first };
  paintRows();
}

function inOrder() {
  const value = (row) => (sorted.key === 'name' ? row.name.toLowerCase() : sorted.key === 'last_at' ? row.last_at : row[sorted.key].value);
  const known = rows.filter((row) => value(row) !== null);
  known.sort((one, other) => (value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0));
  if (sorted.down) known.reverse();
  return [...known, ...rows.filter((row) => value(row) === null)]; // what is not known is last either way
}

function cell(figure, { key, label }, best) {
  const share = h('i', { class: 'share', 'aria-hidden': 'true' });
  share.style.setProperty('--share', (figure.value && best ? figure.value / best : 0).toFixed(3));
  return h('td', { 'data-label': label, 'data-column': key },
    h('span', { class: 'figure' }, h('span', { class: 'number' }, figure.words), chart(figure)),
    share);
}

// The history as a small curve, from zero, so that two of them can be compared.
function chart({ history, range }) {
  const draw = document.createElementNS(SVG, 'svg');
  const attributes = { viewBox: '0 0 64 20', class: 'chart', preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' };
  for (const [name, value] of Object.entries(attributes)) draw.setAttribute(name, value);
  if (history.length < 2) return draw;
  const most = Math.max(...history) || 1;
  const points = history.map((value, index) => `${(2 + (index * 60) / (history.length - 1)).toFixed(1)},${(18 - (value / most) * 16).toFixed(1)}`);
  const line = document.createElementNS(SVG, 'polyline');
  line.setAttribute('points', points.join(' '));
  const title = document.createElementNS(SVG, 'title');
  title.textContent = range;
  draw.append(title, line);
  return draw;
}

function ago(at) {
  const minutes = Math.max(0, Math.round((Date.now() / 1000 - at) / 60));
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 1440)} days ago`;
}
