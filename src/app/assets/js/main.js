// Starts the page's parts, each as soon as Gradio has made its place.
import { startAuto } from './auto.js';
import { startChats, reload } from './chats.js';
import { startComposer } from './composer.js';
import { linkedChat, show, startConversation } from './conversation.js';
import { startDoctor } from './doctor.js';
import { startDownloads } from './downloads.js';
import { startFlight } from './flight.js';
import { startGauges } from './gauges.js';
import { startKeys } from './keys.js';
import { startLearned } from './learned.js';
import { startLoadSettings } from './loadsettings.js';
import { startMemory } from './memory.js';
import { startModels } from './models.js';
import { startParams } from './params.js';
import { startPhase } from './phase.js';
import { startPulse } from './pulse.js';
import { startRepairs } from './repairs.js';
import { startRows } from './rows.js';
import { startScroll } from './scroll.js';
import { state } from './store.js';

startKeys();
startRepairs();
const parts = Promise.all([startChats(), startComposer(), startModels(), startParams(), startScroll(), startConversation(), startRows(), startPhase()]);
startAuto();
startGauges();
startFlight();
startDoctor();
startDownloads();
startMemory();
startLoadSettings();
startLearned();
await parts;
state.chatId = undefined; // so that the first one shown counts as another
show(linkedChat(), { push: false });
reload();
startPulse();
