// Before a load: is there room? If not, a dialog says what would have to go, and what that stops.
import { $, $$, gigabytes, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { state, tell } from './store.js';

const LOAD = { act: 'load' };
const PATIENCE = 8000; // a server that is slow to say what a model needs does not hold up its load
let dialog = null;

// What to do about a model that is wanted: {act: 'load' | 'swap' | 'cancel', unload, when}.
export async function decide(name) {
  const model = state.models?.find((each) => each.full_name === name);
  const others = state.models?.some((each) => each.loaded && each.loadable && each.full_name !== name);
  const underWay = state.jobs.some((job) => job.kind === 'load' && job.model_id === name);
  if (!model?.loadable || model.loaded || !others || underWay) return LOAD;
  let plan;
  checking(true);
  try {
    plan = await call('GET', `models/plan?model_id=${encodeURIComponent(name)}`, undefined, { timeout: PATIENCE });
  } catch { return LOAD; } finally { checking(false); } // the load itself says what is wrong
  if (plan.loaded || (plan.fits !== false && !plan.unload.length)) return LOAD;
  return ask(plan);
}

function checking(now) {
  state.checking = now;
  tell('jobs');
}

function ask(plan) {
  const before = document.activeElement;
  dialog?.remove();
  return new Promise((resolve) => {
    let decision = { act: 'cancel' };
    const end = (chosen) => { decision = chosen; dialog.close(); };
    dialog = document.body.appendChild(build(plan, end));
    dialog.addEventListener('close', () => {
      dialog.remove();
      if (before?.isConnected) before.focus();
      resolve(decision);
    });
    dialog.addEventListener('change', () => paint(plan));
    paint(plan);
    dialog.showModal();
  });
}

function build(plan, end) {
  const swap = () => end({ act: 'swap', unload: chosen(plan).map((each) => each.model_id), when: $('[name=when]:checked', dialog).value });
  const shut = () => end({ act: 'cancel' });
  return h('dialog', { class: 'sheet swap', 'aria-labelledby': 'swap-title', 'aria-describedby': 'swap-said' },
    h('form', { method: 'dialog', onsubmit: (event) => { event.preventDefault(); if (chosen(plan).length) swap(); } },
      h('div', { class: 'head' }, h('h2', { id: 'swap-title' }, `Make room for ${plan.name}?`), iconButton('close', 'Close', shut)),
      h('p', { id: 'swap-said', class: 'said' }, plan.sentences.join(' ')),
      h('fieldset', { class: 'residents' }, h('legend', {}, 'Unload first'), plan.residents.map((each) => resident(each, plan))),
      h('p', { class: 'verdict', role: 'status' }),
      h('fieldset', { class: 'when' }, h('legend', { class: 'sr' }, 'When'),
        radio('idle', true, 'Switch when the answer ends'), radio('now', false, 'Switch now')),
      h('div', { class: 'ends' },
        h('button', { type: 'button', class: 'button', onclick: shut }, 'Cancel'),
        h('button', { type: 'button', class: 'button anyway', onclick: () => end(LOAD) }, 'Load anyway'),
        h('button', { type: 'submit', class: 'button primary' }, 'Switch'))));
}

function resident(each, plan) {
  const notes = [each.size, each.ours ? null : 'loaded by another program', each.chats.length ? `answering in ${titles([each])}` : null];
  return h('label', { class: 'resident' },
    h('input', { type: 'checkbox', value: each.model_id, checked: plan.unload.includes(each.model_id), autofocus: each === plan.residents[0] }),
    h('span', {}, h('b', {}, each.name), h('small', {}, notes.filter(Boolean).join(' · '))));
}

const radio = (value, checked, words) => h('label', {}, h('input', { type: 'radio', name: 'when', value, checked }), h('span', {}, words));

const titles = (residents) => [...new Set(residents.flatMap((each) => each.chats))].map((title) => `“${title}”`).join(', ');

function chosen(plan) {
  const names = new Set($$('.resident input:checked', dialog).map((box) => box.value));
  return plan.residents.filter((each) => names.has(each.model_id));
}

function paint(plan) {
  const going = chosen(plan);
  const busy = going.filter((each) => each.chats.length);
  const when = $('.when', dialog);
  when.hidden = !busy.length;
  const several = busy.flatMap((each) => each.chats).length > 1;
  setText($('[value=idle] + span', when), `Switch when the answer${several ? 's end' : ' ends'}`);
  setText($('[value=now] + span', when), `Switch now (stops the answer${several ? 's' : ''} in ${titles(busy)})`);
  const enough = verdict(plan, going);
  setText($('.verdict', dialog), enough.words);
  $('.verdict', dialog).classList.toggle('short', enough.short);
  $('[type=submit]', dialog).disabled = !going.length;
  $('.anyway', dialog).hidden = plan.fits_after === true && going.length > 0 && !enough.short;
}

// What the ticks come to. Nothing where sizes are not known, or the server has its own reasons.
function verdict(plan, going) {
  const { need_bytes: need, free_bytes: free } = plan;
  if (need === null || free === null || need <= free || going.some((each) => each.bytes === null)) return { words: '', short: false };
  const missing = need - free - going.reduce((sum, each) => sum + each.bytes, 0);
  if (missing > 0) return { words: `${gigabytes(missing)} would still be missing.`, short: true };
  return { words: 'That makes enough room.', short: false };
}
