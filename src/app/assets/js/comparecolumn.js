// One column of a comparison: who answers, the conversation as Gradio paints it, steps and requests, figures.
import { $, $$, appear, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { copy } from './rows.js';
import { runLine } from './runchat.js';
import { timeline } from './runview.js';

const EVERY = 700;
const costs = new Map();
const slots = new Map(); // Gradio's parts, by the number of the column

// Waits for Gradio's parts of this column; they live in the page, and are only lent to the dialog.
export async function slotOf(number) {
  if (!slots.has(number)) {
    const [{ extra }, hist, live] = await Promise.all([window.desk.part(`column${number}`), appear(`#column${number}-hist`), appear(`#column${number}-live`)]);
    const made = { bridge: extra, hist, live, home: hist.parentElement, view: 0, ear: null };
    window.desk.listen(`column${number}-facts`, (facts) => made.ear?.facts(facts));
    window.desk.listen(`column${number}-state`, (told) => made.ear?.state(told));
    slots.set(number, made);
  }
  return slots.get(number);
}

// `acts`: what its buttons do: stop, again, keep. `changed` is called when an answer has come to its end.
export function column(slot, number, { head, acts, changed, home }) {
  const pending = h('div', { class: 'pending', hidden: true }, h('p', { class: 'question' }));
  const run = h('section', { class: 'run-live', 'aria-label': `Run under way in column ${number}`, hidden: true });
  const phase = h('div', { class: 'phase', role: 'status', hidden: true }, h('i', { 'aria-hidden': 'true' }), h('span', { class: 'words' }), h('span', { class: 'speed' }));
  const wrong = h('div', { class: 'problem', role: 'alert', hidden: true });
  const talk = h('div', { class: 'talk', tabindex: 0, role: 'region', 'aria-label': `Conversation of column ${number}` }, slot.hist, pending, run, slot.live, phase, wrong);
  const stop = h('button', { type: 'button', class: 'button small', hidden: true, onclick: () => acts.stop(number) }, 'Stop');
  const words = h('span', { class: 'state' });
  const figures = h('dl', { class: 'figures' });
  const room = h('p', { class: 'room' });
  const bar = h('div', { class: 'acts' });
  const node = h('section', { class: 'column', 'data-column': number, 'aria-label': `Column ${number}` },
    h('header', {}, head, h('p', { class: 'doing' }, words, stop)), talk, h('div', { class: 'under' }, figures, room, bar));
  const end = sticky(talk);
  const watcher = new MutationObserver(dress);
  watcher.observe(slot.hist, { childList: true, subtree: true });
  let told = null;
  let rows = [];
  let live = null;
  let shownKey = null;
  let following = null;
  let shown = 0; // requests that wait in it
  let timer = 0;
  slot.ear = { facts: onFacts, state: onState };

  const asks = () => Boolean(live?.words?.startsWith('Waiting for you'));

  function update(now) {
    told = now;
    setText(room, now.room);
    stop.hidden = now.state !== 'writing' && now.state !== 'waiting';
    pending.hidden = now.question === null;
    setText($('.question', pending), now.question ?? '');
    // Of an answer that was begun its own row speaks.
    const problem = now.message_id === null ? now.problem : null;
    wrong.hidden = !problem;
    wrong.replaceChildren(...(problem ? problemParts(problem) : []));
    const key = JSON.stringify([now.chat_id, now.message_id, now.job_id, now.state]);
    if (key !== shownKey) { shownKey = key; show(); }
    paintFigures();
    paintActs();
    paintPhase();
  }

  function show() {
    slot.view += 1;
    slot.bridge.show({ chat_id: told.chat_id, view: slot.view, everything: true });
  }

  function onFacts(facts) {
    if (!facts || facts.view !== slot.view || !told) return;
    if (facts.problem || !facts.chat) {
      live = null;
      shownKey = null; // it is asked for again with the next look at the comparison
      onRun();
      paintPhase();
      return;
    }
    rows = facts.rows;
    const was = live;
    live = facts.job_id ? { job_id: facts.job_id, words: 'Starting' } : null;
    if (live) slot.bridge.follow({ job_id: live.job_id, view: slot.view });
    if (was && !live) changed();
    onRun();
    requestAnimationFrame(dress);
    paintActs();
    paintPhase();
  }

  function onState(state) {
    if (!state || state.view !== slot.view || state.job_id !== live?.job_id) return;
    if (state.ended) { setTimeout(show, state.problem ? 1000 : 0); return; }
    live = state;
    onRun();
    paintPhase();
  }

  function paintPhase() {
    setText(words, asks() ? 'Waits for you' : told.words);
    words.dataset.state = asks() ? 'asks' : told.state;
    const waits = !live && Boolean(told.waits);
    phase.hidden = !live && !waits;
    phase.classList.toggle('waits', waits);
    setText($('.words', phase), waits ? told.waits : [live?.notice, live?.words].filter(Boolean).join(' '));
    setText($('.speed', phase), live?.speed && !waits ? `${live.speed} tok/s` : '');
  }

  // Steps and requests of an agent with tools.
  function onRun() {
    const id = live?.run ? live.job_id : null;
    if (id === (following?.id ?? null)) return;
    clearTimeout(timer);
    following?.view.leave();
    following = null;
    shown = 0;
    end.hold(false);
    run.hidden = true;
    run.removeAttribute('data-calls');
    run.replaceChildren();
    if (!id) return;
    following = { id, view: timeline({ chat: true, changed: () => look(), home }) };
    run.replaceChildren(following.view.node);
    look();
  }

  async function look() {
    clearTimeout(timer);
    const mine = following;
    if (!mine) return;
    try {
      const { run: seen } = await call('GET', `runs/${encodeURIComponent(mine.id)}/live`);
      if (mine !== following) return;
      if (seen) {
        run.hidden = false;
        const waits = seen.approvals.length;
        end.hold(waits > 0);
        mine.view.update(seen);
        // The request from its beginning, whatever has grown below it.
        if (waits > shown) requestAnimationFrame(() => $('.approval', run)?.closest('li').scrollIntoView({ block: 'start' }));
        shown = waits;
        run.toggleAttribute('data-calls', Boolean(seen.steps.at(-1)?.calls.length));
      }
    } catch (problem) { if (!problem.offline) console.error(problem); }
    if (mine === following) timer = setTimeout(look, EVERY);
  }

  // Under each answer: how it ended, and what was done for it.
  function dress() {
    const found = $$('.message-row', slot.hist);
    if (found.length !== rows.length) return;
    found.forEach((row, index) => {
      const facts = rows[index];
      const last = index === found.length - 1;
      row.classList.toggle('empty-answer', Boolean(facts.empty));
      const key = JSON.stringify([facts.id, facts.label, facts.difference, facts.proof, last]);
      let foot = $(':scope > .foot', row);
      if (foot?.dataset.key === key) return;
      foot?.remove();
      if (facts.role === 'user') return;
      foot = footer(facts, last);
      foot.dataset.key = key;
      row.append(foot);
    });
    readCosts();
  }

  // What the work with tools cost, as the line under its answer says.
  async function readCosts() {
    const lines = $$('.run-fold', slot.hist);
    if (lines.some((line) => !costs.has(line.dataset.run))) {
      for (const line of lines) costs.set(line.dataset.run, null); // asked for once
      try {
        const { runs } = await call('GET', `runs?limit=200&chat_id=${encodeURIComponent(told.chat_id)}`);
        for (const each of runs) costs.set(each.id, each.cost);
      } catch { return; } // the words without figures stay
    }
    for (const line of $$('.run-fold', slot.hist)) setText(line, costs.get(line.dataset.run) ?? line.textContent);
  }

  function footer(facts, last) {
    return h('div', { class: 'foot' },
      facts.problem ? h('div', { class: 'problem' }, ...problemParts(facts.problem, last)) : null,
      facts.run ? runLine(facts) : null,
      h('p', { class: 'facts' },
        facts.label ? h('span', { class: 'label' }, facts.label) : null,
        facts.difference ? h('span', { class: 'differs' }, facts.difference) : null,
        facts.route ? h('span', {}, facts.route.words) : null));
  }

  const problemParts = (problem, retry = true) => [
    h('div', {}, h('p', {}, problem.message), problem.hint ? h('p', { class: 'hint' }, problem.hint) : null),
    retry ? h('button', { type: 'button', class: 'button small', onclick: () => acts.again(number) }, 'Retry') : null].filter(Boolean);

  function paintFigures() {
    const key = JSON.stringify(told.figures);
    if (figures.dataset.key === key) return;
    figures.dataset.key = key;
    figures.replaceChildren(...told.figures.map(({ label, words: value, best }) => h('div', { class: best ? 'best' : null }, h('dt', {}, label),
      h('dd', {}, value, best ? h('span', { class: 'sr' }, ', the best') : null))));
  }

  function paintActs() {
    if (!told) return;
    const answer = rows.at(-1)?.role === 'assistant' && !live ? rows.at(-1).text : '';
    const rests = !['writing', 'waiting', 'gone'].includes(told.state) && !told.busy;
    const key = JSON.stringify([answer.length, rests, told.kept, told.state]);
    if (bar.dataset.key === key) return;
    bar.dataset.key = key;
    const focused = bar.contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null;
    bar.replaceChildren(
      iconButton('copy', 'Copy answer', (event) => copy(event.currentTarget, rows.at(-1)?.text ?? ''), { disabled: !answer }),
      iconButton('again', 'Ask this column again', () => acts.again(number), { disabled: !rests }),
      h('button', { type: 'button', class: 'button small', disabled: told.state === 'gone', onclick: () => acts.keep(number) }, told.kept ? 'Open chat' : 'Keep as chat'));
    if (focused) $(`[aria-label="${focused}"]`, bar)?.focus();
  }

  function leave() {
    clearTimeout(timer);
    following?.view.leave();
    following = null;
    watcher.disconnect();
    end.leave();
    slot.ear = null;
    slot.view += 1;
    slot.bridge.show({ chat_id: null, view: slot.view }); // ends the following, and empties it
    slot.home.append(slot.hist, slot.live);
  }

  return { node, update, leave, asks, refresh: () => { shownKey = null; } };
}

// Follows the end of this column, unless its reader scrolled up.
function sticky(scroller) {
  let stick = true;
  let held = false;
  let before = 0;
  scroller.addEventListener('scroll', () => {
    const gap = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    if (scroller.scrollTop < before - 2 && gap > 40) stick = false;
    if (gap <= 40) stick = true;
    before = scroller.scrollTop;
  }, { passive: true });
  const watch = new ResizeObserver(() => { if (stick && !held) scroller.scrollTop = scroller.scrollHeight; });
  for (const child of scroller.children) watch.observe(child);
  watch.observe(scroller);
  return { hold: (now) => { held = now; }, leave: () => watch.disconnect() };
}
