// The journal, the newest first.
import { h, table } from './dom.js';
import { clock } from './words.js';

// most is how many events the view shows.
const most = 300;

export function eventTable(list, st) {
  const now = Date.parse(st.time);
  const link = (path, name) => h('a', { href: `#/${path}/${encodeURIComponent(name)}` }, name);
  return table('Events', [{ name: 'Time' }, { name: 'Severity' }, { name: 'What happened' }, { name: 'Exchange' }, { name: 'Upstream' }], list.map((e) => ({
    key: e.id,
    cells: [h('time', { datetime: e.time }, clock(e.time, now)), h('span', { class: `severity ${e.severity === 'error' ? 'bad' : e.severity === 'info' ? 'dim' : 'warn'}` }, e.severity),
      [e.text, h('span', { class: 'dim type' }, ` ${e.type}`), e.hint && h('div', { class: 'dim' }, e.hint)],
      e.exchange && [link('exchange', e.exchange), ' ', h('span', { class: 'dim' }, e.kind)], e.upstream && link('upstream', e.upstream)],
  })));
}

const levels = { info: 0, warn: 1, error: 2 };

export function eventsView(s) {
  const f = s.eventFilter;
  const word = f.text.toLowerCase();
  const list = s.events.filter((e) => levels[e.severity] >= levels[f.severity] && (!word
    || [e.exchange, e.kind, e.upstream, e.type, e.text].join(' ').toLowerCase().includes(word)));
  const set = (name) => (e) => s.setEventFilter({ ...f, [name]: e.target.value });
  return [
    h('section', { key: 'events', 'aria-labelledby': 'events' },
      h('h2', { id: 'events' }, 'Events', h('span', { class: 'note' }, ` ${s.eventsNote}`)),
      h('p', { class: 'filter' },
        h('label', null, 'Severity ', h('select', { on: { change: set('severity') }, initial: { value: f.severity } },
          [['info', 'all'], ['warn', 'warn and error'], ['error', 'error']].map(([value, words]) => h('option', { value, selected: f.severity === value }, words)))),
        h('label', { for: 'event-filter' }, 'Filter'),
        h('input', { id: 'event-filter', type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'exchange, upstream, type or words', initial: { value: f.text }, on: { input: set('text') } })),
      list.length === 0 ? h('p', { class: 'dim' }, !s.eventsNote ? 'loading …' : s.events.length === 0 ? 'Nothing has happened yet.' : 'None matches the filter.') : eventTable(list.slice(0, most), s.status),
      list.length > most && h('p', { class: 'dim' }, `The newest ${most} of ${list.length}; more with: proxyd events`)),
  ];
}
