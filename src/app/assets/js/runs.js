// The Runs dialog: all runs, one of them at work, and the form of a new one. Tells who waits.
import { $, h, iconButton, isPhone, setText } from './dom.js';
import { openCompare } from './compare.js';
import { call } from './http.js';
import { show } from './conversation.js';
import { runForm } from './runsform.js';
import { ago, runsList } from './runslist.js';
import { timeline } from './runview.js';
import { agentNow, on, state } from './store.js';
import { fail, toast } from './toasts.js';
import { isTrial } from './trialchats.js';

const EVERY = 700;
let dialog = null;
let list = null;
let shown = null; // {id, view, head, run} of the run on show
let timer = 0;
const told = new Map();

export async function startRuns() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=runs]')) openRuns(); });
  on('jobs', onJobs);
}

// Who waits for the person, wherever that is.

function onJobs() {
  const waiting = state.jobs.filter((job) => job.waits_for);
  const button = $('[data-act=runs]');
  if (button) {
    button.toggleAttribute('data-asks', waiting.length > 0);
    button.setAttribute('aria-label', waiting.length ? `Runs, ${waiting.length} waiting for you` : 'Runs');
  }
  const keys = new Set(waiting.map(keyOf));
  for (const [key, close] of told) if (!keys.has(key)) { close(); told.delete(key); }
  for (const job of waiting) {
    const key = keyOf(job);
    if (onShow(job)) { told.get(key)?.(); told.set(key, () => {}); continue; }
    if (told.has(key)) continue;
    told.set(key, toast(`${job.waits_for} waits for you.`, { lasting: 0, kind: 'asks', action: { label: 'Show', act: () => lead(job) } }));
  }
}

function onShow({ id, chat_id: chat }) {
  if (shown?.id === id) return true;
  if (!chat) return false;
  if (state.trial?.has(chat)) return state.trial.seen();
  return Boolean(chat === state.chatId || state.compared?.has(chat));
}

// To where it can be answered. What is open and may hold something unsaved stays open below.
async function lead({ id, kind, chat_id: chat }) {
  if (state.trial?.has(chat)) { state.trial.show(); return; }
  if (kind !== 'turn' || !chat || isTrial(chat)) { openRuns(id); return; }
  const comparison = await comparisonOf(chat);
  if (comparison) openCompare(comparison);
  else if ($('dialog:modal')) openRuns(id);
  else show(chat);
}

// The comparison whose hidden column a chat is; null for any other chat.
async function comparisonOf(chat) {
  try { return (await call('GET', `comparisons/of/${encodeURIComponent(chat)}`)).id; } catch { return null; }
}

// A column is shown with its comparison.
async function openChat(chat) {
  const comparison = await comparisonOf(chat);
  dialog?.close();
  if (comparison) openCompare(comparison); else show(chat);
}

const keyOf = (job) => `${job.id} ${job.waits_for}`;

// The dialog

export function openRuns(runId = null) {
  if (dialog) { if (runId) choose(runId); return; }
  const before = document.activeElement;
  list = runsList({ choose, shown: () => shown?.id });
  const own = document.body.appendChild(h('dialog', { class: 'sheet runs', 'aria-labelledby': 'runs-title' },
    h('div', { class: 'head' },
      h('button', { type: 'button', class: 'icon-button back', 'data-icon': 'before', 'aria-label': 'Back to the list', onclick: back }),
      h('h2', { id: 'runs-title' }, 'Runs'), iconButton('close', 'Close', () => own.close())),
    h('div', { class: 'body' },
      h('nav', { class: 'side', 'aria-label': 'All runs' },
        h('div', { class: 'make' }, h('button', { type: 'button', class: 'button primary', onclick: () => compose() }, 'New run'), h('button', { type: 'button', class: 'button', onclick: showAllowed }, 'Allowed for good'),
          h('button', { type: 'button', class: 'button', 'data-act': 'recipes', 'aria-haspopup': 'dialog' }, 'Recipes')),
        list.nodes),
      h('div', { class: 'one' }))));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    leave();
    own.remove();
    dialog = null;
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  if (runId) choose(runId);
  beat(own).then(() => { if (own === dialog && !runId && !shown && !isPhone() && !$('form', own)) (list.newest() ? choose(list.newest().id) : compose()); });
}

async function beat(own) {
  clearTimeout(timer);
  try {
    const mine = shown;
    const [, run] = await Promise.all([
      list.refresh(),
      mine && (mine.run?.running ?? true) ? call('GET', `runs/${encodeURIComponent(mine.id)}/live`) : null,
    ]);
    if (own !== dialog) return;
    if (mine && mine === shown && run) paintRun(run.run);
  } catch (problem) {
    if (own === dialog) list.fail(problem);
  }
  if (own === dialog) timer = setTimeout(() => beat(own), EVERY);
}

function leave() {
  shown?.view.leave();
  shown = null;
}

function back() {
  leave();
  $('.one', dialog).replaceChildren();
  dialog.classList.remove('has-one');
  list.paint();
  $('.list button, .make button', dialog)?.focus();
}

function choose(runId) {
  if (shown?.id === runId) return;
  leave();
  const own = dialog;
  const view = timeline({ changed: () => beat(own), home: () => $('.one .bar button', own)?.focus() });
  const bar = h('div', { class: 'bar' });
  const task = askedPart();
  shown = { id: runId, view, bar, task, run: null };
  $('.one', own).replaceChildren(bar, h('div', { class: 'pane', tabindex: -1 }, task.node, view.node));
  own.classList.add('has-one');
  list.paint();
  if (isPhone()) $('.back', own).focus();
  beat(own);
}

// The task; of a long one the beginning, until all of it is asked for.
function askedPart() {
  const text = h('p', { class: 'text' });
  const more = h('button', { type: 'button', class: 'link', hidden: true, 'aria-expanded': 'false', onclick: () => fold(more.getAttribute('aria-expanded') === 'true') }, 'Show all of it');
  const node = h('div', { class: 'asked' }, text, more);

  function fold(folded) {
    text.classList.toggle('folded', folded);
    more.setAttribute('aria-expanded', String(!folded));
    setText(more, folded ? 'Show all of it' : 'Show less');
  }

  function update(words) {
    if (text.textContent === words) return;
    setText(text, words);
    fold(true);
    more.hidden = text.scrollHeight <= text.clientHeight + 1;
  }

  return { node, update };
}

function paintRun(run) {
  if (!run) {
    leave();
    $('.one', dialog).replaceChildren(h('p', { class: 'note', role: 'status' }, 'This run was deleted.'));
    return;
  }
  const was = shown.run;
  shown.run = run;
  shown.task.update(run.task);
  const key = JSON.stringify([run.state, run.model, run.servers, run.mode, run.chat_id]);
  if (shown.bar.dataset.key !== key) {
    shown.bar.dataset.key = key;
    const inside = shown.bar.contains(document.activeElement);
    shown.bar.replaceChildren(
      h('p', { class: 'what' }, h('b', { class: `state ${run.state}`, role: 'status' }, run.words),
        h('small', {}, [run.model, run.servers.join(', '), run.mode].filter(Boolean).join(' · '))),
      h('div', { class: 'acts' },
        run.chat_id && !isTrial(run.chat_id) ? h('button', { type: 'button', class: 'button small', onclick: () => openChat(run.chat_id) }, 'Open chat') : null,
        run.running ? h('button', { type: 'button', class: 'button small', onclick: (event) => stop(event.currentTarget, run.id) }, 'Stop') : null,
        run.running ? null : h('button', { type: 'button', class: 'button small', onclick: () => compose(run) }, 'Run again'),
        h('button', { type: 'button', class: 'button small', onclick: (event) => remove(event.currentTarget, run.id) }, 'Delete')));
    if (inside) $('button', shown.bar)?.focus();
  }
  shown.view.update(run);
  if (was?.running && !run.running) $('.over', shown.view.node).scrollIntoView({ block: 'nearest' });
}

async function stop(button, runId) {
  const own = dialog;
  button.disabled = true;
  setText(button, 'Stopping…');
  try {
    await call('POST', `runs/${encodeURIComponent(runId)}/stop`, undefined, { timeout: 60000 });
  } catch (problem) { say(problem); }
  if (own === dialog) beat(own);
}

async function remove(button, runId) {
  const own = dialog;
  button.disabled = true;
  try {
    await call('DELETE', `runs/${encodeURIComponent(runId)}`, undefined, { timeout: 60000 });
  } catch (problem) { button.disabled = false; say(problem); return; }
  if (own !== dialog) return;
  leave();
  list.drop(runId);
  const undo = h('button', { type: 'button', class: 'button small', onclick: () => bringBack(runId, gone) }, 'Undo');
  const gone = h('div', { class: 'gone' }, h('p', { role: 'status' }, 'The run is deleted.'), undo);
  $('.one', own).replaceChildren(gone);
  list.paint();
  undo.focus();
}

async function bringBack(runId, place) {
  try {
    await call('POST', `runs/${encodeURIComponent(runId)}/restore`);
    if (place.isConnected) choose(runId);
  } catch (problem) { place.append(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`)); }
}

function say(problem) {
  if (dialog && shown) shown.bar.after(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`));
}

function compose(like = null) {
  leave();
  const own = dialog;
  const from = like?.task ? like : null;
  const form = runForm({
    like: from, agent: from ? null : agentNow(), started: (runId) => { if (own === dialog) choose(runId); }, discarded: () => { if (own === dialog) compose(like); },
  });
  $('.one', own).replaceChildren(form);
  own.classList.add('has-one');
  list.paint();
  $('textarea', form).focus();
}

// What a person let run for good, and can take back.
async function showAllowed() {
  leave();
  const own = dialog;
  const place = h('ul', { class: 'allowed', 'aria-labelledby': 'allowed-title' });
  const note = h('p', { class: 'note', role: 'status' }, 'Looking it up…');
  $('.one', own).replaceChildren(h('div', { class: 'pane', tabindex: -1 }, h('h3', { id: 'allowed-title' }, 'Allowed for good'), note, place));
  own.classList.add('has-one');
  list.paint();
  $('.pane', own).focus();
  try {
    const allowed = await call('GET', 'runs/allowed');
    if (!place.isConnected) return;
    setText(note, allowed.length ? 'Runs use these without asking, unless text from outside came in first, or the run asks about each call.' : 'Nothing. Calls that you approve for every run are listed here, and can be taken back.');
    place.replaceChildren(...allowed.map((each) => h('li', {}, h('span', {}, h(each.tool === null ? 'b' : 'code', {}, each.name), h('small', {}, `${each.words} · ${ago(each.at)}`)),
      h('button', { type: 'button', class: 'button small', 'aria-label': `Ask again about ${each.tool === null ? `all tools of ${each.server}` : each.name}`, onclick: ({ currentTarget }) => askAgain(currentTarget, each) }, 'Ask again'))));
  } catch (problem) { setText(note, `${problem.message} ${problem.hint ?? ''}`); }
}

async function askAgain(button, { server, tool }) {
  button.disabled = true;
  try {
    await call('DELETE', `runs/allowed/${encodeURIComponent(server)}${tool === null ? '' : `?tool=${encodeURIComponent(tool)}`}`);
    showAllowed();
  } catch (problem) { button.disabled = false; fail(problem); }
}
