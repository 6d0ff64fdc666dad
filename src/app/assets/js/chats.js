// The sidebar: chats by day, search on the server, rename in place, delete with undo.
import { $, h, iconButton, isPhone } from './dom.js';
import { call } from './http.js';
import { show } from './conversation.js';
import { focusBox } from './composer.js';
import { on, state, tell } from './store.js';
import { fail, toast } from './toasts.js';
import { isTrial } from './trialchats.js';

const PAGE = 60;
let asked = 0;
let page = { chats: [], next_offset: null };
let wanted = PAGE;
let renaming = null;
let timer = 0;

export async function startChats() {
  await window.desk.part('chats');
  $('#new-chat').addEventListener('click', newChat);
  const search = $('#search');
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => { wanted = PAGE; reload(); }, 180); });
  search.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); search.value = ''; wanted = PAGE; reload(); focusBox(); }
    if (event.key === 'Enter' && page.chats.length) open(page.chats[0].id);
    if (event.key === 'ArrowDown') { event.preventDefault(); $('#chat-list .open')?.focus(); }
  });
  $('#chat-list').addEventListener('keydown', onListKey);
  on('chat', paint);
  on('turn', reload);
  on('jobs', paint);
  paint();
}

export function newChat() {
  show(null);
  tell('drawer');
  focusBox();
}

function open(chatId) {
  show(chatId);
  tell('drawer');
  if (!isPhone()) focusBox();
}

function onListKey(event) {
  const row = event.target.closest('li');
  if (!row || event.target.matches('input')) return;
  const rows = [...document.querySelectorAll('#chat-list li')];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) { event.preventDefault(); $('.open', rows[rows.indexOf(row) + step] ?? row)?.focus(); }
  if (event.key === 'F2') rename(row.dataset.id);
  if (event.key === 'Delete' && event.target.matches('.open')) remove(row.dataset.id);
}

export async function reload() {
  const number = ++asked;
  const q = $('#search').value.trim();
  const query = new URLSearchParams({ q, limit: wanted, utc_offset: -new Date().getTimezoneOffset() });
  try {
    const found = await call('GET', `chats?${query}`);
    if (number !== asked) return;
    page = { ...found, chats: found.chats.filter((chat) => !isTrial(chat.id)), q };
    paint();
  } catch { /* the offline notice speaks of it, and the pulse reloads the list */ }
}

function paint() {
  const list = $('#chat-list');
  if (!list || renaming) return;
  const key = JSON.stringify([page, state.chatId, page.chats.filter(isRunning).map((chat) => chat.id), page.chats.filter(waits).map((chat) => chat.id)]);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const focused = document.activeElement?.closest?.('#chat-list li')?.dataset.id;
  const parts = page.q && page.how ? [h('p', { class: 'how', role: 'status' }, page.how)] : [];
  let group = null;
  let items = null;
  for (const chat of page.chats) {
    if (chat.group !== group) {
      group = chat.group;
      items = h('ul', { 'aria-label': group });
      parts.push(h('h3', {}, group), items);
    }
    items.append(row(chat));
  }
  if (page.next_offset !== null && page.next_offset !== undefined) {
    parts.push(h('button', { type: 'button', class: 'button small more', onclick: () => { wanted += PAGE; reload(); } }, 'Show more'));
  }
  if (!page.chats.length && page.total !== undefined) {
    parts.push(h('p', { class: 'nothing' }, page.q ? `Nothing matches “${page.q}”.` : 'Your chats appear here.'));
  }
  list.replaceChildren(...parts);
  if (focused) $(`li[data-id="${CSS.escape(focused)}"] .open`, list)?.focus();
}

const isRunning = (chat) => (state.pulse ? state.jobs.some((job) => job.kind === 'turn' && job.chat_id === chat.id) : chat.running);

const waits = (chat) => state.jobs.some((job) => job.waits_for && job.kind === 'turn' && job.chat_id === chat.id);

function row(chat) {
  const current = chat.id === state.chatId;
  return h('li', { 'data-id': chat.id, class: current ? 'current' : null },
    h('button', { type: 'button', class: 'open', 'aria-current': current ? 'true' : null, title: chat.title,
      onclick: () => open(chat.id), ondblclick: () => rename(chat.id) },
      waits(chat) ? h('span', { class: 'asks' }, h('span', { class: 'sr' }, 'Waits for you: ')) : isRunning(chat) ? h('span', { class: 'running' }, h('span', { class: 'sr' }, 'Answering: ')) : null,
      h('span', { class: 'title' }, chat.title),
      chat.snippet && page.q ? h('span', { class: 'snippet' }, chat.snippet) : null),
    h('span', { class: 'row-actions' },
      iconButton('edit', `Rename ${chat.title}`, () => rename(chat.id)),
      iconButton('trash', `Delete ${chat.title}`, () => remove(chat.id))));
}

function rename(chatId) {
  const item = $(`#chat-list li[data-id="${CSS.escape(chatId)}"]`);
  const chat = page.chats.find((each) => each.id === chatId);
  if (!item || !chat || renaming) return;
  renaming = chatId;
  const input = h('input', { type: 'text', class: 'rename', 'aria-label': 'Chat title', maxlength: 200 });
  input.value = chat.title;
  let over = false;
  const end = async (save) => {
    if (over) return;
    over = true;
    renaming = null;
    const title = input.value.trim();
    if (save && title && title !== chat.title) {
      const before = chat.title;
      chat.title = title;
      paint();
      try { await call('PATCH', `chats/${chatId}`, { title }); } catch (problem) { chat.title = before; fail(problem); }
    }
    paint();
    $(`#chat-list li[data-id="${CSS.escape(chatId)}"] .open`)?.focus();
  };
  input.addEventListener('keydown', (event) => {
    event.stopPropagation();
    if (event.key === 'Enter' && !event.isComposing) end(true);
    if (event.key === 'Escape') end(false);
  });
  input.addEventListener('blur', () => end(true));
  $('#chat-list').dataset.key = '';
  item.replaceChildren(input);
  input.focus();
  input.select();
}

async function remove(chatId) {
  const chat = page.chats.find((each) => each.id === chatId);
  try {
    await call('DELETE', `chats/${chatId}`);
  } catch (problem) { fail(problem); return; }
  page = { ...page, chats: page.chats.filter((each) => each.id !== chatId) };
  const wasOpen = state.chatId === chatId;
  if (wasOpen) show(null); else paint();
  toast(`Deleted “${chat?.title ?? 'chat'}”.`, { lasting: 8000, action: { label: 'Undo', act: () => restore(chatId, wasOpen) } });
}

async function restore(chatId, wasOpen) {
  try {
    await call('POST', `chats/${chatId}/restore`);
    await reload();
    if (wasOpen) show(chatId);
  } catch (problem) { fail(problem); }
}
