// The Get models dialog: search the hub, see what fits, download with progress, load what came.
import { $, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { paintLeft } from './leftovers.js';
import { load } from './loading.js';
import { reloadModels } from './models.js';
import { on, state, tell } from './store.js';
import { toast } from './toasts.js';

const EVERY = 600;
const SHOWN = 6; // ended downloads fall off the list
let dialog = null;
let timer = 0;
let asked = 0; // numbers the searches, so that a slow one does not overwrite a later one
let running = new Set();

export function startDownloads() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=get-models]')) open(); });
  on('jobs', follow);
}

// Says on the button how far a download is, and when one has ended that no dialog shows.
async function follow() {
  const jobs = state.jobs.filter((job) => job.kind === 'download');
  const ended = [...running].filter((id) => !jobs.some((job) => job.id === id));
  running = new Set(jobs.map((job) => job.id));
  const known = jobs.filter((job) => job.progress !== null && job.progress !== undefined);
  const share = known.length ? Math.min(...known.map((job) => job.progress)) : null;
  setText($('.get-models span'), jobs.length ? `Downloading${share === null ? '' : ` ${Math.floor(share * 100)} %`}` : 'Get models');
  if (!ended.length || state.offline) return;
  try {
    const downloads = (await call('GET', 'downloads')).filter((each) => ended.includes(each.job_id));
    await reloadModels();
    if (!dialog) downloads.forEach(report);
  } catch { /* the list shows it when it is opened */ }
}

function report(each) {
  if (each.state === 'done') toast(`${each.name} is here.`, { lasting: 12000, action: each.model_id ? { label: 'Load now', act: () => loadNow(each) } : null });
  else if (each.state === 'failed') toast(each.words, { kind: 'failed', hint: each.hint });
}

function open() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(build(() => own.close()));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    own.remove();
    dialog = null;
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  look(own);
}

function build(shut) {
  const box = h('input', { type: 'search', 'aria-label': 'Search Hugging Face', placeholder: 'Name of a model, or owner/name', autocomplete: 'off', spellcheck: 'false', maxlength: 200, autofocus: true });
  return h('dialog', { class: 'sheet downloads', 'aria-labelledby': 'downloads-title' },
    h('div', { class: 'head' }, h('h2', { id: 'downloads-title' }, 'Get models'), iconButton('close', 'Close', shut)),
    h('div', { class: 'inner' },
      h('form', { role: 'search', onsubmit: (event) => { event.preventDefault(); search(box.value.trim()); } },
        h('div', { class: 'field', 'data-icon': 'search' }, box),
        h('button', { type: 'submit', class: 'button primary' }, 'Search')),
      h('ul', { class: 'moving', 'aria-label': 'Downloads' }),
      h('ul', { class: 'moving left', 'aria-label': 'Unfinished files' }),
      h('p', { class: 'said', role: 'status' }, 'Models of Hugging Face that run here: GGUF files.'),
      h('p', { class: 'hint' }),
      h('ul', { class: 'found', 'aria-label': 'Found models' })));
}

function say(words, hint = '', bad = false) {
  setText($('.said', dialog), words);
  setText($('.inner > .hint', dialog), hint);
  $('.said', dialog).classList.toggle('bad', bad);
}

// The search

async function search(words) {
  if (!words) return;
  const number = ++asked;
  const own = dialog;
  const place = $('.found', own);
  const current = () => own === dialog && number === asked;
  say('Asking Hugging Face…');
  try {
    if (/^https?:\/\/|^[\w.-]+\/[\w.-]+([:@][\w-]+)?$/.test(words)) {
      const offer = await call('GET', `downloads/files?model=${encodeURIComponent(words)}`);
      if (!current()) return;
      place.replaceChildren(result({ id: offer.model, words: offer.gated ? 'asks for its terms' : '' }, offer));
    } else {
      const found = await call('GET', `downloads/search?q=${encodeURIComponent(words)}`);
      if (!current()) return;
      place.replaceChildren(...found.map((each) => result(each)));
    }
    const count = place.children.length;
    say(count ? `${count} ${count === 1 ? 'model' : 'models'}` : 'Nothing with GGUF files is called that.');
  } catch (problem) {
    if (!current()) return;
    place.replaceChildren();
    say(problem.message, problem.hint, true);
  }
}

function result(each, offer = null) {
  const files = h('div', { class: 'files', hidden: !offer });
  const opener = h('button', { type: 'button', class: 'opener', 'aria-expanded': String(Boolean(offer)), onclick: () => toggle(each, opener, files) },
    h('b', {}, each.id), h('small', {}, each.words));
  if (offer) fill(files, offer);
  return h('li', {}, opener, files);
}

async function toggle(each, opener, files) {
  files.hidden = !files.hidden;
  opener.setAttribute('aria-expanded', String(!files.hidden));
  if (files.hidden || files.dataset.known) return;
  files.replaceChildren(h('p', { class: 'hint' }, 'Looking at its files…'));
  try {
    fill(files, await call('GET', `downloads/files?model=${encodeURIComponent(each.id)}`));
  } catch (problem) {
    files.replaceChildren(h('p', { class: 'bad', role: 'alert' }, problem.message), h('p', { class: 'hint' }, problem.hint));
  }
}

function fill(files, offer) {
  files.dataset.known = 'yes';
  files.replaceChildren(...offer.choices.map((choice) => {
    const button = h('button', { type: 'button', class: 'button small', 'aria-label': `Download ${choice.name} of ${offer.model}`, onclick: () => start(button, offer.model, choice.file) }, 'Download');
    return h('div', { class: 'choice' },
      h('span', { class: 'what' }, h('b', { title: choice.file }, choice.name), h('small', {}, choice.words)),
      h('span', { class: 'fits', 'data-fits': choice.fits ?? '' }, choice.fits_words), button);
  }));
  if (!offer.choices.length) files.append(h('p', { class: 'hint' }, 'It has no whole GGUF file.'));
}

async function start(button, model, file, provider) {
  const own = dialog;
  button.disabled = true;
  try {
    // As an address, because LM Studio takes a bare name for one of its own catalogue.
    await call('POST', 'downloads', { model: model.includes('/') ? `https://huggingface.co/${model}` : model, file, provider });
    tell('hurry');
    if (own === dialog) {
      say('');
      look(own);
      own.scrollTo({ top: 0 });
    }
  } catch (problem) {
    if (own === dialog) {
      say(problem.message, problem.hint, true);
      own.scrollTo({ top: 0 });
    }
  }
  button.disabled = false;
}

// Downloads under way, and those that ended lately

async function look(own) {
  clearTimeout(timer);
  try {
    const [list, left] = await Promise.all([call('GET', 'downloads'), call('GET', 'downloads/parts')]);
    if (own === dialog) { paint(list); paintLeft($('.left', own), left, () => look(own), say); }
  } catch { /* what was shown stays */ }
  if (own === dialog) timer = setTimeout(() => look(own), EVERY);
}

function paint(list) {
  const place = $('.moving', dialog);
  const shown = newest(list);
  const rows = new Map([...place.children].map((row) => [row.dataset.key, row]));
  const wanted = shown.map((each) => {
    const key = JSON.stringify([each.job_id, each.state, each.model_id]);
    return rows.get(key) ?? row(each, key);
  });
  if (wanted.length !== place.children.length || wanted.some((each, index) => each !== place.children[index])) {
    const focused = place.contains(document.activeElement);
    place.replaceChildren(...wanted);
    if (focused && !place.contains(document.activeElement)) ($('button', place) ?? $('input', dialog)).focus();
  }
  shown.forEach((each, index) => update(wanted[index], each));
}

// One row a file: a download taken up again stands for the one before.
function newest(list) {
  const seen = new Set();
  const rows = list.filter((each) => {
    const key = `${each.provider} ${each.model} ${each.file} ${each.quantization}`;
    if (seen.has(key)) return false;
    return seen.add(key);
  });
  return rows.filter((each, index) => each.state === 'running' || index < SHOWN);
}

function row(each, key) {
  const name = each.quantization ? `${each.name} ${each.quantization}` : each.name;
  const going = each.state === 'running';
  return h('li', { 'data-key': key, 'data-state': each.state },
    h('span', { class: 'what' }, h('b', { title: each.file ?? each.model }, name),
      h('small', { role: going ? null : 'status' })),
    ending(each, name),
    going ? h('div', { class: 'bar', role: 'progressbar', 'aria-label': `Download of ${name}`, 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('b')) : null,
    h('p', { class: 'hint' }));
}

function ending(each, name) {
  const button = (label, act) => h('button', { type: 'button', class: 'button small', 'aria-label': `${label}: ${name}`, onclick: (event) => act(event.currentTarget) }, label);
  if (each.state === 'running') return button('Cancel', (own) => stop(own, each));
  if (each.state === 'done') return each.model_id ? button('Load now', () => loadNow(each)) : null;
  return button(each.state === 'failed' ? 'Try again' : 'Continue', (own) => start(own, each.file || !each.quantization ? each.model : `${each.model}:${each.quantization}`, each.file, each.provider));
}

function update(place, each) {
  setText($('small', place), each.words);
  setText($('.hint', place), each.hint);
  const bar = $('.bar', place);
  if (!bar) return;
  bar.classList.toggle('unknown', each.share === null);
  if (each.share === null) bar.removeAttribute('aria-valuenow');
  else bar.setAttribute('aria-valuenow', String(Math.floor(each.share * 100)));
  $('b', bar).style.width = `${(each.share ?? 0) * 100}%`;
}

async function stop(button, each) {
  const own = dialog;
  button.disabled = true;
  try {
    await call('POST', `jobs/${each.job_id}/stop`, undefined, { timeout: 60000 });
  } catch (problem) { if (own === dialog && problem.code !== 'job_not_found') say(problem.message, problem.hint, true); }
  tell('hurry');
  if (own === dialog) look(own);
}

async function loadNow(each) {
  dialog?.close();
  try { await reloadModels(); } catch { /* the pulse reloads the list */ }
  window.desk.picked('model', each.model_id);
  await reloadModels();
  await load();
}
