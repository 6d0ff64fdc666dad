// The chats that test an agent's draft: kept out of the sidebar, and deleted when the test is over.
import { kept } from './dom.js';

const NAME = 'trials';
const read = () => { try { return JSON.parse(kept.get(NAME)) ?? []; } catch { return []; } };
const page = new Set(); // where nothing can be kept

export const isTrial = (id) => page.has(id) || read().includes(id);
export function addTrial(id) { page.add(id); kept.set(NAME, JSON.stringify([...read(), id])); }
export function dropTrial(id) { kept.set(NAME, JSON.stringify(read().filter((each) => each !== id))); }
export const trials = read;
