// The Connection panel: what is the matter with each provider, looked at again while it is open.
import { $, copyText, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { on, state, tell } from './store.js';

const PAUSE = 3000;
const AWAY = "LM Desk's server does not answer. Trying again…";
const SAID = { ok: ['answers', 'answer'], note: ['is not ready', 'are not ready'], attention: ['needs you', 'need you'] };
let dialog = null;
let timer = 0;

export function startDoctor() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=doctor]')) open(); });
  on('jobs', notice);
}

// Above the conversation, as long as nobody answers.
function notice() {
  const place = $('#unconnected');
  if (!place) return;
  const off = !state.offline && state.pulse?.provider.state === 'off' && !state.pulse.embedded_in_use;
  place.hidden = !off;
  setText($('span', place), off ? `No model can answer: ${state.pulse.provider.words}.` : '');
}

function open() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(h('dialog', { class: 'sheet doctor', 'aria-labelledby': 'doctor-title' },
    h('div', { class: 'head' }, h('h2', { id: 'doctor-title' }, 'Connection'), iconButton('close', 'Close', () => own.close())),
    h('p', { class: 'verdict', role: 'status', 'data-state': 'wait' }, 'Looking…'),
    h('ul', { class: 'findings' }),
    h('p', { class: 'again' }, 'Looks again every few seconds.')));
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

async function look(own) {
  if (!document.hidden) {
    try {
      const found = await call('GET', 'doctor');
      if (own === dialog) paint(own, found);
    } catch (problem) {
      if (own === dialog) verdict(own, 'attention', problem.offline ? AWAY : problem.message);
    }
  }
  if (own === dialog) timer = setTimeout(() => look(own), PAUSE);
}

function paint(own, found) {
  const list = $('.findings', own);
  const kept = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = found.map((each) => {
    const key = JSON.stringify(each);
    return kept.get(key) ?? card(each, key); // an unchanged one keeps its selection and its focus
  });
  if (items.length !== list.children.length || items.some((item, index) => item !== list.children[index])) {
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...items);
    if (focused && !list.contains(document.activeElement)) $('.head button', own).focus();
    tell('hurry'); // the status bar shall not lag behind
  }
  verdict(own, ...summary(found.filter(({ code }) => code !== 'resting')));
}

// "LM Studio needs you. Built-in engine answers." and the colour of it all.
function summary(found) {
  const states = ['attention', 'note', 'ok'].filter((each) => found.some((one) => one.state === each));
  const words = states.map((each) => {
    const names = found.filter((one) => one.state === each).map((one) => one.name);
    return `${names.join(' and ')} ${SAID[each][names.length > 1 ? 1 : 0]}.`;
  });
  const calm = states.includes('ok') && states.length > 1;
  return [calm ? 'note' : states[0] ?? 'attention', words.join(' ')];
}

function verdict(own, of, words) {
  const line = $('.verdict', own);
  line.dataset.state = of;
  setText(line, words);
}

function card(each, key) {
  const lines = each.command.split('\n').length;
  return h('li', { 'data-key': key, 'data-state': each.state, 'data-code': each.code, 'data-provider': each.provider },
    h('h3', {}, h('i', { 'aria-hidden': true }), each.name, each.url ? h('small', {}, each.url) : null),
    h('p', {}, each.message),
    each.evidence ? h('p', { class: 'evidence' }, each.evidence) : null,
    each.hint ? h('p', { class: 'hint' }, each.hint) : null,
    each.command ? h('div', { class: 'command' }, h('pre', {}, h('code', {}, each.command)),
      h('button', { type: 'button', class: 'button small', 'aria-label': `Copy ${lines > 1 ? 'lines' : 'line'} for ${each.name}`, onclick: (event) => copy(event.currentTarget, each.command) }, 'Copy')) : null);
}

async function copy(button, text) {
  await copyText(text, button);
  setText(button, 'Copied');
  setTimeout(() => setText(button, 'Copy'), 1500);
}
