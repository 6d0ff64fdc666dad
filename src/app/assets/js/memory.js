// The memory map: what lies in each GPU, or in RAM, and a button to take a model out of it.
import { $, $$, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { eject } from './loading.js';
import { on, state } from './store.js';

const EVERY = 4000; // other programs come and go, and nobody tells
const COLOURS = 5;
let asked = 0;
let under = false;

export async function startMemory() {
  await window.desk.part('inspector');
  on('models', () => look({ always: true }));
  on('jobs', paintButtons);
  setInterval(() => look(), 1000);
}

const visible = () => !document.hidden && $('#memory-map')?.checkVisibility({ visibilityProperty: true });

async function look({ always = false } = {}) {
  if (under || state.offline) return;
  if (!always && (Date.now() - asked < EVERY || !visible())) return;
  under = true;
  asked = Date.now();
  try { paint(await call('GET', 'models/memory')); } catch { /* what was shown stays */ }
  under = false;
}

function paint({ bars, empty }) {
  const place = $('#memory-map');
  const key = JSON.stringify([empty, bars.map((bar) => [bar.key, bar.parts.map((part) => [part.kind, part.model_id, part.name])])]);
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    const focused = document.activeElement?.closest?.('#memory-map button')?.getAttribute('aria-label');
    place.replaceChildren(...bars.map(build), empty ? h('p', { class: 'note' }, 'No model is in memory.') : '');
    if (focused) $$('button', place).find((each) => each.getAttribute('aria-label') === focused)?.focus();
  }
  for (const bar of bars) fill($(`[data-bar="${bar.key}"]`, place), bar);
  paintButtons();
}

function build(bar) {
  const models = bar.parts.filter((part) => part.kind === 'model');
  const mark = (part) => {
    const number = models.indexOf(part);
    const colour = number < 0 ? part.kind : `model c${(number % COLOURS) + 1}`;
    return (tag) => h(tag, { class: `part ${colour}` }, number >= 0 && models.length > 1 ? String(number + 1) : '');
  };
  return h('div', { class: 'map', 'data-bar': bar.key },
    h('div', { class: 'top' }, h('span', { title: bar.title || null }, `In ${bar.label}`), h('output', {})),
    h('div', { class: 'strip', 'aria-hidden': 'true' }, bar.parts.map((part) => mark(part)('i'))),
    h('ul', { 'aria-label': `What is in ${bar.label}` }, bar.parts.map((part) => h('li', {},
      h('span', { 'aria-hidden': 'true' }, mark(part)('i')),
      h('span', { class: 'what' }, h('span', { class: 'name' }, part.name), h('small', {})),
      part.kind === 'model' ? iconButton('eject', `Eject ${part.name}`, () => eject(part.model_id)) : null))));
}

function fill(place, bar) {
  setText($('output', place), bar.words);
  const strips = $$('.strip .part', place);
  const rows = $$('li', place);
  bar.parts.forEach((part, index) => {
    strips[index].style.flexGrow = String(Math.max(part.share, 0.004));
    strips[index].classList.toggle('thin', part.share < 0.07);
    const using = part.chats ? ` · ${part.chats === 1 ? 'answering' : `${part.chats} answers`}` : '';
    setText($('small', rows[index]), `${part.words}${using}`);
  });
}

function paintButtons() {
  const moving = Boolean(state.unloading) || state.offline;
  for (const button of $$('#memory-map button')) button.disabled = moving;
}
