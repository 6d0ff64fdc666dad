// What stands under each finished row: its facts, and what can be done with it.
import { $, $$, appear, copyText, h, iconButton } from './dom.js';
import { call } from './http.js';
import { announce, show } from './conversation.js';
import { flightButton } from './flight.js';
import { eject } from './loading.js';
import { runLine } from './runchat.js';
import { modelNow, on, state, tell } from './store.js';
import { fail, toast } from './toasts.js';

// The model sees its unfinished answer above this.
const GO_ON = 'Your answer was cut off. Continue exactly where it stopped.';

export async function startRows() {
  on('rows', () => requestAnimationFrame(dress));
  on('picked', dress);
  on('models', dress);
  new MutationObserver(dress).observe(await appear('#hist'), { childList: true, subtree: true });
}

function dress() {
  const history = $('#hist');
  const found = $$('.message-row', history);
  $('#earlier').hidden = !state.hidden;
  if (found.length !== state.rows.length) return;
  found.forEach((row, index) => {
    const facts = state.rows[index];
    const last = index === found.length - 1;
    const key = JSON.stringify([facts.id, facts.siblings, facts.label, facts.proof, last, last && facts.lost_model && modelNow()?.name, last && ejectable(facts)]);
    let foot = $(':scope > .foot', row);
    if (foot?.dataset.key === key) return;
    foot?.remove();
    foot = footer(facts, { last });
    foot.dataset.key = key;
    row.append(foot);
    row.dataset.message = facts.id;
    row.classList.toggle('empty-answer', Boolean(facts.empty));
  });
}

function footer(facts, { last }) {
  return facts.role === 'user' ? userFooter(facts) : answerFooter(facts, last);
}

function userFooter(facts) {
  return h('div', { class: 'foot' }, h('div', { class: 'actions' },
    versions(facts),
    iconButton('copy', 'Copy message', (event) => copy(event.currentTarget, facts.text)),
    iconButton('edit', 'Edit message', (event) => edit(event.currentTarget, facts))));
}

function answerFooter(facts, last) {
  const problem = facts.problem;
  return h('div', { class: 'foot' },
    problem ? h('div', { class: 'problem' }, h('div', {}, h('p', {}, problem.message), problem.hint ? h('p', { class: 'hint' }, problem.hint) : null),
      last && !facts.lost_model ? h('button', { type: 'button', class: 'button small', onclick: () => again(facts) }, 'Retry') : null) : null,
    facts.run ? runLine(facts) : null,
    last && facts.lost_model ? goOn(facts) : null,
    h('div', { class: 'line' },
      h('div', { class: 'actions' },
        versions(facts),
        facts.empty ? null : iconButton('copy', 'Copy answer', (event) => copy(event.currentTarget, facts.text)),
        last && !problem && !facts.lost_model ? iconButton('again', 'Answer again', () => again(facts)) : null,
        facts.timed ? flightButton(facts) : null),
      h('p', { class: 'facts' },
        facts.label ? h('span', { class: 'label' }, facts.label) : null,
        facts.proof ? h('span', { class: facts.busy ? 'label' : 'proof' }, facts.proof, last && ejectable(facts) ? ejectButton(facts) : null) : null,
        facts.difference ? h('span', { class: 'differs' }, facts.difference) : null,
        facts.route ? h('span', {}, routeButton(facts.route)) : null,
        facts.facts.map((fact, index) => h('span', { class: index ? null : 'model' }, fact)))),
    facts.route ? h('ul', { class: 'route', hidden: true }, facts.route.lines.map((line) => h('li', {}, line))) : null);
}

// Why this model: folded, as most answers need no explaining.
function routeButton({ words, failed }) {
  return h('button', { type: 'button', class: failed ? 'why moved' : 'why', 'aria-expanded': 'false', onclick: ({ currentTarget: button }) => {
    const list = $('.route', button.closest('.foot'));
    list.hidden = !list.hidden;
    button.setAttribute('aria-expanded', String(!list.hidden));
  } }, words);
}

const ejectable = (facts) => Boolean(facts.busy && state.models?.some((model) => model.full_name === facts.model_id && model.loaded && model.loadable));

const ejectButton = (facts) => h('button', { type: 'button', class: 'link', onclick: () => eject(facts.model_id) }, 'Eject the model');

// Whose model was taken away goes on with whichever is picked now, in a message of its own.
function goOn(facts) {
  const by = modelNow() ? ` with ${modelNow().name}` : '';
  return h('div', { class: 'go-on' },
    facts.empty ? null : h('button', { type: 'button', class: 'button small primary', onclick: () => tell('ask', { content: GO_ON }) }, `Continue${by}`),
    h('button', { type: 'button', class: `button small${facts.empty ? ' primary' : ''}`, onclick: () => again(facts) }, `Answer again${by}`));
}

function versions(facts) {
  if (!facts.siblings.length) return null;
  const at = facts.siblings.indexOf(facts.id);
  const turn = (step) => async () => {
    try {
      await call('PATCH', `chats/${state.chatId}`, { head_id: facts.siblings[at + step] });
      show(state.chatId, { keepPlace: true });
    } catch (problem) { fail(problem); }
  };
  return h('span', { class: 'versions' },
    iconButton('before', 'Previous version', turn(-1), { disabled: at === 0 }),
    h('span', {}, `${at + 1}/${facts.siblings.length}`),
    iconButton('after', 'Next version', turn(1), { disabled: at === facts.siblings.length - 1 }));
}

export async function copy(button, text) {
  await copyText(text, button);
  button.dataset.icon = 'done';
  setTimeout(() => { button.dataset.icon = 'copy'; }, 1500);
  announce('Copied.');
}

function again(facts) { tell('ask', { parent_id: facts.parent }); }

function edit(button, facts) {
  if (state.live) { toast('An answer is being written. Stop it first, then edit.'); return; }
  const row = button.closest('.message-row');
  if ($('.edit', row)) return;
  const area = h('textarea', { 'aria-label': 'Edited message', rows: Math.min(10, facts.text.split('\n').length + 1) });
  area.value = facts.text;
  const close = () => { form.remove(); row.classList.remove('editing'); button.focus(); };
  const send = () => {
    if (!area.value.trim()) return;
    tell('ask', { content: area.value, parent_id: facts.parent, edits: facts.id, done: close });
  };
  const form = h('form', { class: 'edit', onsubmit: (event) => { event.preventDefault(); send(); } }, area,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'button small', onclick: close }, 'Cancel'),
      h('button', { type: 'submit', class: 'button small primary' }, 'Send edited')));
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); close(); }
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  row.classList.add('editing');
  row.append(form);
  area.focus();
}
