// The test chat: answers with the draft as it stands, in a chat that is deleted afterwards.
import { $, h, iconButton, setText } from './dom.js';
import { call, Problem } from './http.js';
import { begin } from './loading.js';
import { paintMarkdown } from './markdown.js';
import { timeline } from './runview.js';
import { state, tell } from './store.js';
import { decide } from './swap.js';
import { addTrial, dropTrial, trials } from './trialchats.js';

const EVERY = 700;
const erase = (chat) => call('DELETE', `chats/${chat}`).catch((problem) => { if (problem.offline) throw problem; });

// Those that a closed tab left behind.
export async function sweep() {
  for (const chat of trials()) {
    try { await erase(chat); dropTrial(chat); } catch { return; } // nobody answers: the next time
  }
}

// `reveal` turns the dialog to the test chat, where that is not on show.
export function trial({ id, draft, model, reveal }) {
  let chat = null;
  let job = null;
  let reading = null;
  const runs = new Set(); // answers that called tools: each is kept as a run
  const list = h('ol', { class: 'said-list', tabindex: 0, 'aria-label': 'Test chat' });
  const asks = h('small', { class: 'asks' });
  const clear = h('button', { type: 'button', class: 'button small', hidden: true, onclick: () => { end(); list.replaceChildren(); paint(); box.focus(); } }, 'Clear');
  const box = h('textarea', { rows: 2, maxlength: 20000, 'aria-label': 'Test message', placeholder: 'Try it with a message…', onkeydown: onKey });
  const send = iconButton('send', 'Send the test message', () => (job ? stop() : ask()));
  const node = h('section', { class: 'pane trial', 'aria-label': 'Test chat' },
    h('div', { class: 'top' }, h('span', {}, h('b', {}, 'Test chat'), asks), clear),
    list, h('div', { class: 'write' }, box, send));
  addEventListener('pagehide', leave);
  const here = {
    has: (chatId) => chat !== null && chatId === chat,
    seen: () => node.checkVisibility(),
    show: () => { reveal(); ($('.approval', node) ?? box).focus(); },
  };
  state.trial = here;

  function onKey(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    if (!job) ask();
  }

  function paint() {
    clear.hidden = !list.children.length;
    send.dataset.icon = job ? 'stop' : 'send';
    send.setAttribute('aria-label', job ? 'Stop the test' : 'Send the test message');
    send.title = send.getAttribute('aria-label');
  }

  function add(role, words) {
    const stuck = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
    const item = h('li', { class: role }, h('p', { class: 'text' }, words));
    list.append(item);
    if (stuck || role === 'mine') list.scrollTop = list.scrollHeight;
    return item;
  }

  async function ask() {
    const content = box.value;
    if (!content.trim() || send.disabled) return;
    send.disabled = true;
    const now = reading = new AbortController();
    try {
      const wanted = model();
      const decision = wanted && wanted !== 'auto' ? await decide(wanted) : { act: 'load' };
      if (decision.act === 'cancel' || now.signal.aborted) return;
      if (decision.act === 'swap') await begin(wanted, decision);
      const started = await call('POST', 'agents/trial', { content, agent: draft(), agent_id: id(), model_id: wanted ?? 'auto', chat_id: chat }, { timeout: 60000 });
      if (!chat) addTrial(started.chat_id);
      if (now.signal.aborted) { erase(started.chat_id); return; }
      chat = started.chat_id;
      job = started.job_id;
      box.value = '';
      add('mine', content);
      paint();
      send.disabled = false;
      tell('hurry');
      await follow(now);
    } catch (problem) {
      if (!now.signal.aborted) wrong(problem);
    } finally {
      send.disabled = false;
      if (reading === now) { job = null; paint(); }
    }
  }

  async function follow(now) {
    const item = add('answer', '');
    const thought = h('details', { hidden: true }, h('summary', {}, 'Thoughts'), h('p'));
    const line = h('small', { class: 'state', role: 'status' }, 'Starting');
    const work = working(item, job, now.signal);
    item.prepend(thought);
    item.append(line);
    const response = await fetch(`./ui/agents/trial/${chat}/${job}`, { signal: now.signal, cache: 'no-store' });
    for await (const told of linesOf(response.body)) {
      const stuck = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
      if (told.problem) throw new Problem(told.problem);
      if (told.end) { ended(item, line, told.end); continue; }
      if (told.run) {
        // Words that led to calls stand in the timeline, and need not be said twice.
        setText($(':scope > p.text', item), '');
        thought.remove();
        runs.add(job);
        work();
      }
      if (told.was_thinking) { // what is there of the answer
        const said = $(':scope > p.text', item);
        if (thought.isConnected) { thought.hidden = false; $('p', thought).append(said.textContent); }
        setText(said, '');
      }
      if (told.thought && thought.isConnected) { thought.hidden = false; $('p', thought).append(told.thought); }
      if (told.text) $(':scope > p.text', item).append(told.text);
      setText(line, [told.notice || told.words, told.speed].filter(Boolean).join(' · '));
      if (stuck) list.scrollTop = list.scrollHeight;
    }
  }

  // What it does with tools, as the chats show it: read anew until the run is over.
  function working(item, run, signal) {
    let timer = 0;
    let begun = false;
    const view = timeline({ chat: true, changed: look, home: () => box.focus() });
    signal.addEventListener('abort', () => { clearTimeout(timer); view.leave(); });

    async function look() {
      clearTimeout(timer);
      let told = null;
      try { ({ run: told } = await call('GET', `runs/${encodeURIComponent(run)}/live`)); } catch (problem) { if (!problem.offline) console.error(problem); }
      if (signal.aborted) return;
      if (told) {
        const stuck = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
        if (!view.node.isConnected) item.prepend(view.node);
        view.update(told);
        if (stuck && !told.approvals.length) list.scrollTop = list.scrollHeight;
      }
      if (told ? told.running : job === run) timer = setTimeout(look, EVERY);
    }

    return () => { if (!begun) { begun = true; look(); } };
  }

  function ended(item, line, { text_html, facts, label, problem, difference }) {
    const answer = h('div', { class: 'text rendered' }); // of several steps the last one answers
    paintMarkdown(answer, text_html);
    $(':scope > p.text', item).replaceWith(answer);
    setText(line, [...facts, label].filter(Boolean).join(' · '));
    for (const words of [problem && `${problem.message} ${problem.hint ?? ''}`, difference]) {
      if (words) item.append(h('p', { class: 'wrong', role: 'alert' }, words));
    }
    list.scrollTop = list.scrollHeight;
  }

  function wrong(problem) {
    if (problem.code === 'chat_not_found') chat = null;
    if (!(problem instanceof Problem)) console.error(problem);
    const words = problem instanceof Problem ? `${problem.message} ${problem.hint ?? ''}` : "LM Desk's server does not answer.";
    list.append(h('li', { class: 'answer' }, h('p', { class: 'wrong', role: 'alert' }, words)));
    list.scrollTop = list.scrollHeight;
    paint();
  }

  async function stop() {
    try { await call('POST', `jobs/${job}/stop`, undefined, { timeout: 60000 }); } catch (problem) { if (problem.code !== 'job_not_found') wrong(problem); }
  }

  // The chat goes, and with it an answer that is being written.
  function end() {
    reading?.abort();
    reading = null;
    job = null;
    if (chat) {
      const over = chat;
      const made = [...runs];
      runs.clear();
      erase(over).then(() => dropTrial(over), () => { /* swept the next time */ })
        .then(() => Promise.allSettled(made.map((run) => call('DELETE', `runs/${run}`))));
    }
    chat = null;
  }

  function leave() {
    if (chat) fetch(`./ui/chats/${chat}`, { method: 'DELETE', keepalive: true }).catch(() => { /* swept the next time */ });
  }

  return {
    node,
    end: () => { removeEventListener('pagehide', leave); if (state.trial === here) state.trial = null; end(); },
    checked: (told) => {
      const picked = state.models?.find((each) => each.full_name === model());
      setText(asks, model() === 'auto' ? 'Auto picks the model' : picked ? `Asks ${picked.name}` : told.model ? `Asks ${told.model}` : '');
    },
  };
}

async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const found = (rest + value).split('\n');
    rest = found.pop();
    for (const line of found) if (line) yield JSON.parse(line);
  }
}
