// The Tools panel: every tool server, what it would run, a yes to it, its switches and its log.
import { $, $$, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { noTools } from './toolsnone.js';
import { arrangement, forgetDrafts, pending, signing } from './toolsetup.js';

const PAUSE = 3000;
const ASKING = [['', 'As the agent says'], ['ask', 'Always ask'], ['read-only', 'Ask unless it only reads'], ['auto', 'Ask only if the agent does']];
const opened = new Set(); // the folds that are open, by server
let dialog = null;
let timer = 0;
let turn = 0; // what was asked before something was changed is not painted after it

export function startToolServers() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=toolservers]')) openToolServers(); });
}

export function openToolServers() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(h('dialog', { class: 'sheet toolservers', 'aria-labelledby': 'toolservers-title' },
    h('div', { class: 'head' }, h('h2', { id: 'toolservers-title' }, 'Tools'), iconButton('close', 'Close', () => own.close())),
    h('p', { class: 'verdict', role: 'status' }, 'Looking…'),
    h('ul', { class: 'problems' }),
    h('ul', { class: 'servers' }),
    adding(),
    h('p', { class: 'from' })));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    own.remove();
    dialog = null;
    forgetDrafts();
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  look(own);
}

async function look(own) {
  clearTimeout(timer);
  const mine = ++turn;
  const newest = () => own === dialog && mine === turn;
  if (!document.hidden) {
    try {
      const found = await call('GET', 'tool-servers');
      if (newest()) paint(own, found);
    } catch (problem) {
      if (newest()) say(own, problem.message, true);
    }
  }
  if (newest()) timer = setTimeout(() => look(own), PAUSE);
}

function paint(own, found) {
  const list = $('.servers', own);
  const kept = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = found.servers.map((each) => {
    const key = JSON.stringify([each, pending(each)]);
    return kept.get(key) ?? card(each, key); // an unchanged one keeps its selection and its focus
  });
  if (items.length !== list.children.length || items.some((item, index) => item !== list.children[index])) {
    const focus = list.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
    const had = list.contains(document.activeElement);
    list.replaceChildren(...items);
    if (had && !list.contains(document.activeElement)) ($$('[data-focus]', list).find((each) => each.dataset.focus === focus) ?? $('.head button', own)).focus();
  }
  $('.problems', own).replaceChildren(...found.problems.map(problemCard));
  const none = $('.none', own);
  if (found.servers.length) none?.remove();
  else if (!none && !found.problems.length) $('.servers', own).after(noTools(found.files));
  const asking = found.servers.filter((each) => each.asks).length;
  const away = found.servers.filter((each) => each.state === 'needs_sign_in').length;
  const running = found.servers.filter((each) => each.state === 'ready').length;
  const words = found.servers.length
    ? [asking ? `${asking} need${asking === 1 ? 's' : ''} your yes.` : '', away ? `${away} need${away === 1 ? 's' : ''} you to sign in.` : '', `${running} of ${found.servers.length} running. One starts when an agent wants it.`]
    : ['No tool servers yet.'];
  say(own, words.filter(Boolean).join(' '), asking + away > 0);
  setText($('.from', own), `Read from ${found.files.join(', ')}. The first file counts where two name the same server.`);
}

function say(own, words, attention) {
  const line = $('.verdict', own);
  line.dataset.state = attention ? 'attention' : 'ok';
  setText(line, words);
}

const problemCard = (each) => h('li', {},
  h('p', {}, h('b', {}, each.line ? `${each.file}, line ${each.line}` : each.file), each.key ? h('code', {}, each.key) : null),
  h('p', {}, each.message), each.hint ? h('p', { class: 'hint' }, each.hint) : null);

function card(each, key) {
  const item = h('li', { 'data-key': key, 'data-light': each.light, 'data-state': each.state, 'data-server': each.name },
    h('div', { class: 'line' },
      h('h3', {}, h('i', { 'aria-hidden': true }), each.name, h('small', {}, each.title ? `${each.state_words} · ${each.title}` : each.state_words)),
      h('label', { class: 'turn' }, tick(each.enabled, `Use ${each.name}`, `on ${each.name}`, (box) => act(box, each, 'POST', box.checked ? 'enable' : 'disable')), 'On')),
    each.command ? h('pre', { tabindex: '0', 'aria-label': each.transport === 'http' ? `Address of ${each.name}` : `Command line of ${each.name}` }, h('code', {}, each.command)) : null,
    h('p', { class: 'facts' }, facts(each)),
    each.message && !each.asks && each.state !== 'needs_sign_in' ? h('p', { class: each.light === 'attention' ? 'wrong' : 'hint' }, each.message) : null,
    each.hint && !each.asks && each.light === 'attention' && each.state !== 'needs_sign_in' ? h('p', { class: 'hint' }, each.hint) : null,
    each.asks ? question(each) : null,
    signing(each, lookAt),
    each.tools.length ? tools(each) : null,
    each.command ? arrangement(each, folded(`how ${each.name}`, 'How it runs'), (button, changes) => act(button, each, 'PATCH', '', changes)) : null,
    log(each),
    buttons(each));
  return item;
}

function facts(each) {
  const parts = [`From ${each.source}`];
  if (each.named) parts.push(`named ${each.named} in the file`);
  if (each.also_in.length) parts.push(`also in ${each.also_in.join(', ')}, which is not used`);
  const known = each.command.includes(each.program); // it stands in the command line already
  const link = each.leads_to ? `a link to ${each.leads_to}` : '';
  if (link || !known) parts.push(known ? `its program is ${link}` : `runs ${[each.program, link].filter(Boolean).join(', ')}`);
  if (each.cwd) parts.push(`runs in ${each.cwd}`);
  if (each.env_names.length) parts.push(`gets ${each.env_names.join(', ')}`);
  if (each.signed_in) parts.push('signed in');
  if (each.header_names.length) parts.push(`sends ${each.header_names.join(', ')}`);
  return `${parts.join(' · ')}.`;
}

function question(each) {
  const changed = each.tools.filter((tool) => tool.changed);
  const remote = each.transport === 'http';
  const words = each.state === 'changed' ? each.message
    : remote ? 'What agents send to this address leaves LM Desk. Its tools are used once you say yes.'
      : 'This runs a program on this machine, with your rights. It is not started before you say yes.';
  return h('div', { class: 'question' },
    h('p', {}, words),
    changed.length + each.differences.length ? h('dl', {},
      each.differences.flatMap((part) => [h('dt', {}, `${part.what} changed`), h('dd', { class: 'old' }, h('del', {}, part.before)), h('dd', {}, part.now)]),
      changed.flatMap((tool) => [
        h('dt', {}, `${tool.name}: ${tool.changed}`),
        tool.before === null ? null : h('dd', { class: 'old' }, h('del', {}, tool.before)),
        h('dd', {}, tool.description)])) : null,
    h('button', { type: 'button', class: 'button primary', 'aria-label': `Trust ${each.name}`, 'data-focus': `trust ${each.name}`, onclick: (event) => act(event.currentTarget, each, 'POST', 'trust', { hash: each.hash }) }, 'Trust'));
}

function tools(each) {
  const fold = folded(`tools ${each.name}`, each.cost);
  fold.append(
    h('label', { class: 'asking' }, 'Calls of this server', choose(each.approval, `Asking about calls of ${each.name}`, `asking ${each.name}`, (value, box) => act(box, each, 'PUT', 'approval', { approval: value }))),
    h('ul', { class: 'tools' }, each.tools.map((tool) => h('li', {},
      h('label', {}, tick(tool.enabled, `Use ${tool.name} of ${each.name}`, `tool ${each.name} ${tool.name}`, (box) => act(box, each, 'PUT', 'tools', { tool: tool.name, enabled: box.checked, approval: tool.approval })), h('b', {}, tool.name)),
      h('small', {}, [`${tool.tokens.toLocaleString('en')} tokens`, tool.kind, tool.changed].filter(Boolean).join(' · ')),
      choose(tool.approval, `Asking about ${tool.name} of ${each.name}`, `asks ${each.name} ${tool.name}`, (value, box) => act(box, each, 'PUT', 'tools', { tool: tool.name, enabled: tool.enabled, approval: value })),
      tool.description ? h('p', {}, tool.description) : null))));
  return fold;
}

function log(each) {
  if (each.transport === 'http' || each.asks) return null;
  const text = h('pre', { tabindex: '0', 'aria-label': `Log of ${each.name}` }, '…');
  const fold = folded(`log ${each.name}`, 'Log', async () => {
    try { setText(text, (await call('GET', `tool-servers/${encodeURIComponent(each.name)}/log`)).log || 'It wrote nothing.'); } catch (problem) { setText(text, problem.message); }
  });
  fold.append(text);
  return fold;
}

function buttons(each) {
  const works = each.enabled && !each.asks && each.command;
  return h('div', { class: 'acts' },
    works ? h('button', { type: 'button', class: 'button small', 'data-focus': `start ${each.name}`, 'aria-label': `${each.state === 'ready' ? 'Restart' : 'Start'} ${each.name}`, onclick: (event) => act(event.currentTarget, each, 'POST', 'restart') }, each.state === 'ready' ? 'Restart' : 'Start') : null,
    each.signed_in ? h('button', { type: 'button', class: 'button small', 'data-focus': `sign out ${each.name}`, 'aria-label': `Sign out of ${each.name}`, onclick: (event) => act(event.currentTarget, each, 'POST', 'sign-out') }, 'Sign out') : null,
    each.asks || !each.command || each.state === 'off' ? null : h('button', { type: 'button', class: 'button small', 'data-focus': `distrust ${each.name}`, 'aria-label': `Stop trusting ${each.name}`, onclick: (event) => act(event.currentTarget, each, 'POST', 'distrust') }, 'Stop trusting'),
    each.ours ? h('button', { type: 'button', class: 'button small', 'aria-label': `Remove ${each.name}`, onclick: (event) => remove(event.currentTarget, each) }, 'Remove') : null,
    h('p', { class: 'wrong', role: 'alert' }));
}

function adding() {
  const fold = folded('adding', 'Add a server by its address');
  const told = h('p', { class: 'wrong', role: 'alert' });
  const form = h('form', {},
    h('label', {}, 'Name', h('input', { name: 'name', required: true, maxlength: '64', pattern: '[A-Za-z0-9][A-Za-z0-9_\\-]*', autocomplete: 'off', title: 'Letters, digits, - and _' })),
    h('label', {}, 'Address', h('input', { name: 'url', required: true, type: 'url', placeholder: 'https://…', autocomplete: 'off' })),
    h('label', {}, 'Authorization, if it wants one', h('input', { name: 'key', type: 'password', placeholder: 'Bearer …', autocomplete: 'off' })),
    h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'private' }), 'It is in my own network'),
    h('button', { class: 'button' }, 'Add'), told,
    h('p', { class: 'hint' }, 'A server that is a command is added in mcp.json by hand: a page must not bring programs.'));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { name, url, key, private: inside } = form.elements;
    setText(told, '');
    try {
      await call('POST', 'tool-servers', { name: name.value.trim(), url: url.value.trim(), headers: key.value ? { Authorization: key.value } : {}, allow_private: inside.checked });
      form.reset();
      fold.open = false;
    } catch (problem) { setText(told, [problem.message, problem.hint].filter(Boolean).join(' ')); }
    if (dialog) look(dialog);
  });
  fold.append(form);
  return fold;
}

async function act(control, each, method, path, body) {
  const item = control.closest('li[data-server]');
  control.disabled = true;
  clearTimeout(timer);
  turn += 1;
  let wrong = '';
  try { await call(method, `tool-servers/${encodeURIComponent(each.name)}${path && `/${path}`}`, body, { timeout: 0 }); } catch (problem) { wrong = [problem.message, problem.hint].filter(Boolean).join(' '); }
  control.disabled = false;
  if (!dialog) return !wrong;
  delete item.dataset.key; // painted anew whatever became of it
  await look(dialog);
  if (wrong) tell(each.name, wrong);
  return !wrong;
}

async function lookAt(focus) {
  if (!dialog) return;
  await look(dialog);
  $$('[data-focus]', dialog).find((each) => each.dataset.focus === focus)?.focus();
}

function tell(name, words) {
  const item = $$('li[data-server]', dialog).find((one) => one.dataset.server === name);
  if (item && !item.textContent.includes(words)) setText($('.acts .wrong', item), words);
}

async function remove(button, each) {
  if (button.dataset.sure === undefined) {
    button.dataset.sure = '';
    setText(button, 'Really remove');
    return;
  }
  try { await call('DELETE', `tool-servers/${encodeURIComponent(each.name)}`, undefined, { timeout: 0 }); } catch (problem) { tell(each.name, problem.message); return; }
  if (dialog) { await look(dialog); }
}

function folded(key, title, onopen) {
  const fold = h('details', { open: opened.has(key) }, h('summary', { 'data-focus': key }, title));
  if (fold.open) onopen?.();
  fold.addEventListener('toggle', () => {
    if (!fold.isConnected) return;
    if (fold.open) { if (!opened.has(key)) onopen?.(); opened.add(key); } else opened.delete(key);
  });
  return fold;
}

function tick(checked, label, focus, change) {
  const box = h('input', { type: 'checkbox', 'aria-label': label, 'data-focus': focus });
  box.checked = checked;
  box.addEventListener('change', () => change(box));
  return box;
}

function choose(value, label, focus, change) {
  const box = h('select', { 'aria-label': label, 'data-focus': focus }, ASKING.map(([mode, words]) => h('option', { value: mode }, words)));
  box.value = value ?? '';
  box.addEventListener('change', () => change(box.value || null, box));
  return box;
}
