// The composer: drafts per chat, Send and Stop in one place, nothing typed is ever lost.
import { isAuto, preview } from './auto.js';
import { $, h, kept, setText } from './dom.js';
import { call } from './http.js';
import { show } from './conversation.js';
import { begin } from './loading.js';
import { saveNow } from './params.js';
import { busy, on, state, tell } from './store.js';
import { decide } from './swap.js';
import { fail, toast } from './toasts.js';
import { scrollToEnd } from './scroll.js';

// Refusals whose cause the Connection panel finds.
const CONNECTION = new Set(['provider_unreachable', 'provider_timeout', 'provider_needs_token', 'provider_protocol']);
const draftName = (chatId = state.chatId) => `draft.${chatId ?? 'new'}`;
let box = null;
let draftOf = null;
let problemCode = null;

export async function startComposer() {
  await window.desk.part('composer');
  box = $('#message');
  box.value = kept.get(draftName()) ?? box.value;
  draftOf = state.chatId;
  box.addEventListener('input', () => { kept.set(draftName(), box.value); problem(null); fit(); });
  box.addEventListener('keydown', onKey);
  $('#compose-form').addEventListener('submit', (event) => { event.preventDefault(); if (busy()) stop(); else send(); });
  on('chat', onChat);
  on('live', paint);
  on('offline', () => {
    // The notice above says the same, and goes by itself.
    if (!state.offline && ['server_unreachable', 'starting'].includes(problemCode)) problem(null);
    paint();
  });
  on('ask', (asked) => ask(asked));
  on('starter', starter);
  fit();
  paint();
}

export const focusBox = () => box?.focus();

function onChat() {
  if (draftOf === state.chatId) return;
  draftOf = state.chatId;
  box.value = kept.get(draftName()) ?? '';
  problem(null);
  fit();
}

function onKey(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (matchMedia('(pointer: coarse)').matches && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  if (!busy()) send();
}

function fit() {
  box.style.height = 'auto';
  box.style.height = `${Math.min(box.scrollHeight, 208)}px`;
}

function starter(text) {
  box.value = text;
  kept.set(draftName(), text);
  fit();
  if (/[:：]\s*$/.test(text)) { box.focus(); box.setSelectionRange(text.length, text.length); } else send();
}

function problem(told) {
  const line = $('#send-problem');
  problemCode = told?.code ?? null;
  line.hidden = !told;
  setText(line, told ? [told.message, told.hint].filter(Boolean).join(' ') : '');
  if (CONNECTION.has(problemCode)) line.append(h('button', { type: 'button', class: 'link', 'data-act': 'doctor', 'aria-haspopup': 'dialog' }, 'What to do'));
}

async function send() {
  const content = box.value;
  if (!content.trim() || state.sending) return;
  const chatId = state.chatId;
  const sent = await ask({ content });
  if (!sent) return;
  kept.set(draftName(chatId), null);
  if (box.value === content) { box.value = ''; fit(); } else kept.set(draftName(sent.chat_id), box.value);
}

// Asks for an answer: a new message, an edited one, or the same question again.
async function ask({ content, parent_id, done }) {
  if (state.sending) return null;
  if (state.live) { toast('An answer is being written. Stop it first.'); return null; }
  if (!state.model && state.models?.length) { toast('Pick a model first.'); return null; }
  state.sending = true;
  problem(null);
  tell('live');
  const view = state.view;
  try {
    await saveNow();
    const model = state.model;
    const wanted = isAuto() ? (await preview(content ?? '')).model_id : model;
    const decision = await decide(wanted);
    if (decision.act === 'cancel') return null;
    // The turn finds the load under way and waits for it.
    if (decision.act === 'swap') await begin(wanted, decision);
    const sent = await call('POST', 'turns', {
      chat_id: state.chatId,
      content,
      parent_id,
      model_id: model,
      agent_id: state.agent,
      parameters: state.chatId ? undefined : state.parameters,
    }, { timeout: 60000 });
    state.sending = false;
    done?.();
    // Whoever opened another chat meanwhile stays there; the answer is written all the same.
    if (view === state.view || state.chatId === sent.chat_id) {
      draftOf = sent.chat_id;
      show(sent.chat_id);
      state.live = { job_id: sent.job_id, phase: 'queued', words: 'Starting', since: Date.now() };
      scrollToEnd({ stick: true });
    }
    tell('turn');
    return sent;
  } catch (refused) {
    if (view === state.view) problem(refused); else fail(refused);
    return null;
  } finally {
    state.sending = false;
    tell('live');
  }
}

export async function stop() {
  if (!state.live || state.stopping) return;
  state.stopping = true;
  tell('live');
  try {
    await call('POST', `jobs/${state.live.job_id}/stop`, undefined, { timeout: 30000 });
  } catch (refused) {
    if (refused.code !== 'job_not_found') fail(refused);
    state.stopping = false;
    tell('live');
  }
}

function paint() {
  const button = $('#send');
  if (!button) return;
  const stopping = busy();
  button.dataset.icon = stopping ? 'stop' : 'send';
  button.setAttribute('aria-label', stopping ? 'Stop' : 'Send');
  button.title = stopping ? 'Stop (Esc)' : 'Send (Enter)';
  button.disabled = state.stopping || state.sending;
  button.classList.toggle('stopping', stopping);
}
