// The page: keeps what the server sends, and draws the view that the address names.
// It never shows old data as if it were new.
import { h, render } from './dom.js';
import { clock, count, later } from './words.js';
import { byState, losses, overview } from './overview.js';
import { eventsView } from './events.js';
import { configView, exchangeView, upstreamView } from './details.js';

const staleAfter = 5000; // ms without a status; one comes each second
const askEvery = 2000; // ms, where there is no stream
const askFleet = 3000; // ms
const askHidden = 10000; // ms, while nobody looks; a browser may make a minute of it
const staleHidden = 90000; // ms
const keepEvents = 2000;
const mostTunnels = 200;

const at = (id) => document.getElementById(id);
const version = document.documentElement.dataset.version;

const s = {
  status: null, feeds: [], events: [], eventsNote: '', config: null, configNote: '', tunnels: { list: [], note: '' }, fleet: null,
  filter: '', eventFilter: { severity: 'info', text: '' },
  setFilter(text) { s.filter = text; draw(); },
  setEventFilter(f) { s.eventFilter = f; draw(); },
  loadTunnels,
};
let received = performance.now(); // when the last status came; at first, when the page was written
let lost = null; // since when there is no connection, and why
let announced = '';
let configKey = '';
let fleetAsked = -Infinity; // when the fleet was last asked for

// The connection. A browser opens at most six to one address, for all its tabs, and
// a stream keeps one: a tab that nobody looks at has none, or the seventh would never
// load. It asks now and then, for its title.

let source = null;
let timer = 0; // until the next attempt

function connect() {
  clearTimeout(timer);
  if (document.hidden) {
    ask();
    return;
  }
  if (source) return;
  source = new EventSource('/api/v1/status');
  source.onopen = loadEvents;
  source.addEventListener('status', (e) => take(JSON.parse(e.data)));
  source.addEventListener('event', (e) => addEvents([JSON.parse(e.data)]));
  source.addEventListener('gap', loadEvents);
  source.onerror = () => {
    if (source && source.readyState !== EventSource.CLOSED) { // the browser tries again
      lose('');
      return;
    }
    source = null; // refused
    ask();
  };
}

function again(ms) {
  clearTimeout(timer);
  timer = setTimeout(connect, ms);
}

// ask gets one status where there is no stream, as when there are too many viewers,
// and then tries the stream again.
async function ask() {
  try {
    const resp = await fetch('/api/v1/status');
    if (resp.ok) {
      take(await resp.json());
      if (!document.hidden) loadEvents();
    } else {
      lose(resp.status === 401 ? 'proxyd asks for the token again: load this page anew' : (await resp.text()).trim());
    }
  } catch {
    lose('');
  }
  again(document.hidden ? askHidden : askEvery);
}

function take(status) {
  if (status.version !== version && !at('dialog').open) {
    location.reload(); // the scripts of another version may not understand it
    return;
  }
  s.status = status;
  received = performance.now();
  lost = null;
  follow();
  draw();
}

// lose says that there is no connection.
function lose(why) {
  if (lost && lost.why === why) return;
  lost = { since: lost ? lost.since : later(asOf(), performance.now() - received), why };
  draw();
}

const silence = () => performance.now() - received;
let shown = 0; // when the reader came back to this tab

setInterval(() => {
  const patience = document.hidden ? staleHidden : staleAfter;
  if (silence() > patience && performance.now() - shown > 1000 && !lost) lose('');
}, 500);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    source?.close();
    source = null;
    again(askHidden);
    return;
  }
  shown = performance.now();
  if (silence() > staleAfter) document.body.classList.add('stale'); // until it is drawn anew
  connect();
});

window.addEventListener('pageshow', (e) => {
  if (e.persisted) location.reload(); // the browser kept the page, and closed its stream
});

// asOf is the time of what is shown, by the server's clock.
const asOf = () => (s.status ? s.status.time : document.documentElement.dataset.time);

// What is asked for beside the stream.

async function get(path) {
  const resp = await fetch(path);
  if (!resp.ok) throw new Error((await resp.text()).trim());
  return resp.json();
}

function addEvents(list) {
  const have = new Set(s.events.map((e) => e.id));
  const fresh = list.filter((e) => !have.has(e.id));
  if (fresh.length === 0) return;
  s.events = [...s.events, ...fresh].sort((a, b) => Date.parse(b.time) - Date.parse(a.time)).slice(0, keepEvents);
  draw();
}

async function loadEvents() {
  try {
    const got = await get(`/api/v1/events?limit=${keepEvents}`);
    s.eventsNote = `since ${clock(got.remembers_since, Date.parse(asOf()))}`;
    addEvents(got.events);
  } catch (e) {
    s.eventsNote = `cannot be read: ${e.message}`;
  }
}

async function loadTunnels(filter) {
  s.tunnels = { ...s.tunnels, note: 'loading …' };
  draw();
  try {
    const got = await get(`/api/v1/tunnels?${new URLSearchParams({ ...filter, limit: mostTunnels })}`);
    const list = got.filter((t) => Object.entries(filter).every(([k, v]) => (t[k] || '') === v)).slice(0, mostTunnels);
    const time = asOf();
    const words = list.length < mostTunnels ? count(list.length, 'tunnel') : `the ${mostTunnels} quietest`;
    s.tunnels = { list, time, note: `${words}, as of ${clock(time, Date.parse(time))}` };
  } catch (e) {
    s.tunnels = { list: [], note: `cannot be read: ${e.message}` };
  }
  draw();
}

async function loadConfig() {
  try {
    s.config = await get('/api/v1/config');
  } catch (e) {
    s.configNote = `cannot be read: ${e.message}`;
  }
  draw();
}

async function loadFeeds() {
  try {
    s.feeds = (await get('/api/v1/feeds')).feeds;
    draw();
  } catch {
    // the status comes from the same server: it says that the connection is lost
  }
}

async function loadFleet() {
  fleetAsked = performance.now();
  try {
    s.fleet = await get('/api/v1/fleet');
    draw();
  } catch {
    s.fleet = null; // it may have left the configuration; the status says when the connection is lost
  }
}

// follow asks again for what a view shows beside the status, where that has changed.
function follow() {
  const [view] = route();
  const c = s.status.config;
  const key = JSON.stringify([c.loaded_at, c.in_force, c.faults]);
  if (view === 'config' && key !== configKey) {
    configKey = key;
    loadConfig();
  }
  if ((view === 'exchange' || view === 'upstream')) loadFeeds();
  if (!s.status.fleet) s.fleet = null;
  else if (view === '' && !document.hidden && performance.now() - fleetAsked > askFleet) loadFleet();
}

// The views.

let current = ['', ''];

function route() {
  if (location.hash.startsWith('#/')) {
    const [view, ...rest] = location.hash.slice(2).split('/');
    try {
      current = [view, decodeURIComponent(rest.join('/'))];
    } catch {
      current = ['', ''];
    }
  } else if (location.hash === '') {
    current = ['', ''];
  }
  return current;
}

function view() {
  const [name, argument] = route();
  switch (name) {
    case 'exchange': return exchangeView(s, argument);
    case 'upstream': return upstreamView(s, argument);
    case 'events': return eventsView(s);
    case 'config': return configView(s);
    default: return overview(s);
  }
}

function opened() {
  const [name, argument] = route();
  s.tunnels = { list: [], note: '' };
  s.feeds = [];
  configKey = '';
  if (s.status) follow();
  if (name === 'exchange' || name === 'upstream') loadTunnels({ [name]: argument });
  draw();
}

window.addEventListener('hashchange', () => {
  if (!location.hash.startsWith('#/')) return; // a place within the view
  opened();
  window.scrollTo(0, 0);
  at('main').focus({ preventScroll: true });
});

function draw() {
  drawHead();
  if (!s.status) return; // what the server wrote stays until then
  const [name] = route();
  render(at('main'), h('div', { key: current.join('/') }, view()));
  for (const a of document.querySelectorAll('nav a')) {
    const here = a.getAttribute('href') === `#/${name}`;
    if (here) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
}

// drawHead writes line 1, and how old all of it is.
function drawHead() {
  const st = s.status;
  const now = Date.parse(asOf());
  document.body.classList.toggle('stale', Boolean(lost));
  render(at('live'), lost ? h('span', { class: 'bad' }, 'not connected') : st ? ['as of ', h('time', { datetime: st.time }, clock(st.time, now))] : 'connecting …');
  if (!st && !lost) return;
  const lines = st ? st.problems : null;
  const [line, bad] = headline(lines, now);
  const todo = st && !lost ? losses(byState(st.exchanges)).map((rows) => rows[0]).filter((e) => e.hint) : [];
  const whole = route()[0] === ''; // the other views have the first line only, and what to do
  render(at('news'),
    h('h1', { class: lost || bad ? 'bad' : '' }, line),
    lost && lost.why && h('p', null, lost.why),
    lost && lines && h('p', { class: 'dim' }, `Then: ${lines[0] || 'ok'}`),
    todo.length > 0 && h('p', { class: 'todo' }, h('strong', null, 'What to do: '), todo[0].hint),
    !lost && lines.length > 1 && (whole ? h('ul', null, lines.slice(1).map((l) => h('li', null, l))) : h('p', null, h('a', { href: '#/' }, count(lines.length - 1, 'more problem')))));
  document.title = `${lost ? '? ' : bad ? '! ' : ''}proxyd: ${line}`;
  announce(line);
}

function headline(lines, now) {
  if (lost) return [`Connection lost since ${clock(lost.since, now)}; showing data as of ${clock(asOf(), now)}`, true];
  if (lines.length > 0) return [lines[0], true];
  const exchanges = new Set(s.status.exchanges.filter((e) => e.tunnels > 0 && e.exchange).map((e) => e.exchange));
  return [`ok: ${count(s.status.active, 'tunnel')}${exchanges.size > 0 ? ` of ${count(exchanges.size, 'exchange')}` : ''}`, false];
}

// announce has a screen reader read line 1 when it says something else, and not
// when only a number in it has changed.
function announce(line) {
  const words = line.replace(/\d+/g, '');
  if (words === announced) return;
  announced = words;
  at('announce').textContent = line;
}

for (const part of ['main', 'news', 'live', 'answer']) at(part).dataset.script = 'on';
at('views').hidden = false;
if (location.hash.startsWith('#/')) opened();
connect();
