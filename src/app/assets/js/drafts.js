// What was filled into a form and is not sent yet: kept in this browser until it is sent, saved or discarded.
import { kept } from './dom.js';

export const draft = {
  get(name) { try { return JSON.parse(kept.get(`draft.${name}`)); } catch { return null; } },
  set(name, value) { kept.set(`draft.${name}`, value && JSON.stringify(value)); },
};
