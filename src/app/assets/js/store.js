// What the page knows. One owner; others listen.
import { kept } from './dom.js';

export const state = {
  view: 0,           // grows with each chat shown; answers of older views are ignored
  shownAt: 0,        // when the view was asked for, until its facts are here
  chatId: null,
  chat: null,
  rows: [],
  hidden: 0,
  everything: false,
  revision: 0,
  live: null,        // the answer being written: {job_id, phase, words, since, …}
  stopping: false,
  sending: false,
  offline: false,
  pulse: null,
  models: null,      // null until first known
  agents: null,
  model: kept.get('model'),
  agent: kept.get('agent'),
  parameters: {},    // of the chat, or of one that is not begun yet
  jobs: [],
  checking: false,   // whether it is being found out what a load would need
  unloading: null,   // full name of a model being taken out of memory from here
};

// Seconds without any movement after which a wait says so, and how to end it.
export const STILL = 20;

const ears = new Map();
export const on = (name, ear) => { ears.set(name, [...(ears.get(name) ?? []), ear]); };
export const tell = (name, what) => { ears.get(name)?.forEach((ear) => ear(what)); };

export const modelNow = () => state.models?.find((model) => model.full_name === state.model) ?? null;
export const agentNow = () => state.agents?.find((agent) => agent.id === state.agent) ?? null;
export const isDeleted = (id) => Boolean(id && state.agents && !state.agents.some((agent) => agent.id === id));
export const agentName = (id) => (id ? state.agents?.find((agent) => agent.id === id)?.name ?? (state.agents ? 'Deleted agent' : 'Agent') : 'Usual agent');
export const busy = () => Boolean(state.live);
