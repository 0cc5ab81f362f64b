// The first view: what is wrong, then every exchange, upstream and budget.
import { h, table, sparkline } from './dom.js';
import { age, bytes, clock, count, exchangeName, isBad, isDegraded, isTime, rate, span, stateWord } from './words.js';
import { eventTable } from './events.js';

const order = { lost: 0, silent: 1, ok: 2, idle: 3, no_traffic: 4 };

// foldFrom is how many rows that are fine a list may have unfolded.
const foldFrom = 12;

export const exchangeLink = (id) => (id ? h('a', { href: `#/exchange/${encodeURIComponent(id)}` }, id) : exchangeName(id));

export const upstreamLink = (name) => (name && name !== 'direct' && name !== 'other' ? h('a', { href: `#/upstream/${encodeURIComponent(name)}` }, name) : name);

export function overview(s) {
  const st = s.status;
  const has = (...words) => words.join(' ').toLowerCase().includes(s.filter.toLowerCase());
  const exchanges = byState(st.exchanges).filter((e) => has(exchangeName(e.exchange), e.kind, e.outbound || '', e.state, e.text || ''));
  const upstreams = st.upstreams.filter((u) => (u.name !== 'direct' || inUse(u)) && has(u.name, u.url, u.state || '', ...u.pools));
  const notable = distinct(s.events.filter((e) => e.severity !== 'info')).slice(0, 6);
  const known = st.upstreams.filter((u) => u.name !== 'direct');
  return [
    h('p', { class: 'filter' }, h('label', { for: 'filter' }, 'Filter '),
      h('input', { id: 'filter', type: 'search', autocomplete: 'off', spellcheck: 'false', initial: { value: s.filter }, on: { input: (e) => s.setFilter(e.target.value) } })),
    section('exchanges', 'Exchanges', totals(exchanges), folded(s, 'exchange', exchanges, (e) => e.state !== 'no_traffic', 'without traffic yet', (list) => exchangeTable(list, st))),
    section('upstreams', 'Upstreams', known.length > 0 && `${known.filter((u) => !u.bad).length} of ${known.length} in use`, upstreams.length === 0 && !s.filter
      ? h('p', { class: 'dim' }, 'None: all goes direct.')
      : folded(s, 'upstream', byUse(upstreams), (u) => u.bad || u.state || (u.verdicts || []).some((v) => v.verdict !== 'ok'), 'fine', (list) => upstreamTable(list, st))),
    notable.length > 0 && section('latest', 'Latest warnings', h('a', { href: '#/events' }, 'all events'), eventTable(notable, st)),
    (st.budgets || []).length > 0 && section('budgets', 'Budgets', '', folded(s, 'budget', st.budgets, (b) => !b.watched || b.remaining === 0 || b.refused > 0, 'published by the exchange, watched only', budgetTable, 0)),
    s.fleet && section('fleet', 'Fleet', fleetNote(s.fleet), fleetParts(s)),
    section('process', 'This process', '', processFacts(st)),
  ];
}

export function section(id, title, note, ...content) {
  return h('section', { key: id, 'aria-labelledby': id }, h('h2', { id }, title, note && h('span', { class: 'note' }, ' ', note)), content);
}

// totals says what all rows carry together.
function totals(list) {
  const sum = (of) => list.reduce((n, e) => n + of(e), 0);
  const lost = list.filter((e) => isBad(e.state)).length;
  return [lost > 0 && `${lost} lost or silent`, count(sum((e) => e.tunnels), 'tunnel'), rate(sum((e) => e.down.second))].filter(Boolean).join(' · ');
}

// distinct keeps the latest of the events that say the same again.
function distinct(list) {
  const seen = new Set();
  return list.filter((e) => {
    const key = [e.type, e.exchange, e.kind, e.upstream].join('/');
    return !seen.has(key) && seen.add(key);
  });
}

const inUse = (u) => u.tunnels > 0 || u.failures > 0 || Boolean(u.state);

// folded shows the rows that matter, and the others behind a line that opens; with
// a filter, or when there are at most as many as few, it shows all.
function folded(s, one, rows, matters, words, draw, few = foldFrom) {
  if (rows.length === 0) return h('p', { class: 'dim' }, s.filter ? 'None matches the filter.' : 'None.');
  if (s.filter || rows.length <= few) return draw(rows);
  const first = rows.filter(matters);
  const rest = rows.filter((r) => !matters(r));
  return [
    first.length > 0 && draw(first),
    rest.length > 0 && h('details', { key: one }, h('summary', null, `${first.length > 0 ? `${rest.length} more ` : ''}${first.length > 0 ? words : `${count(rest.length, one)}, all ${words}`}`), draw(rest)),
  ];
}

// byState puts exchanges that are lost first, and those without traffic last.
export const byState = (list) => list.toSorted((a, b) => order[a.state] - order[b.state]);

const byUse = (list) => list.toSorted((a, b) => rank(b) - rank(a));
const rank = (u) => (u.bad ? 2 : u.state ? 1 : 0);

// state writes the state of an exchange and kind, with why, since when and, unless
// another row says it, what to do.
export function state(e, st, hint = true) {
  const since = isTime(e.since) && e.state !== 'no_traffic' ? `since ${clock(e.since, Date.parse(st.time))}` : '';
  return [
    h('span', { class: `state ${isBad(e.state) ? 'bad' : isDegraded(e) ? 'warn' : e.state === 'ok' ? 'ok' : 'dim'}` }, stateWord(e)),
    since && h('span', { class: 'dim' }, ' ', since),
    isBad(e.state) && e.text && h('div', { class: 'bad' }, e.text),
    isDegraded(e) && h('div', { class: 'warn' }, e.text),
    hint && (isBad(e.state) || isDegraded(e)) && e.hint && h('div', { class: 'dim' }, e.hint),
  ];
}

export function rateCell(e) {
  const now = rate(e.down.second);
  const words = `bytes a second in the last minute: ${bytes(e.down.minute)} on average, ${bytes(Math.max(0, ...(e.history || [])))} at most`;
  return h('span', { class: 'rate' }, sparkline(e.history, words), ' ', h('span', { class: 'n' }, now));
}

export function failed(c) {
  return c.failed > 0 ? h('span', { class: 'warn', title: c.last_failure ? c.last_failure.text : false }, c.failed) : '0';
}

// losses joins the rows that are lost for one cause.
export function losses(list) {
  const groups = new Map();
  for (const e of list.filter((one) => isBad(one.state))) {
    const key = `${e.state}/${e.cause || `${e.exchange} ${e.kind}`}`;
    groups.set(key, [...(groups.get(key) || []), e]);
  }
  return [...groups.values()];
}

function exchangeTable(list, st) {
  const now = Date.parse(st.time);
  const firsts = new Set(losses(list).map((rows) => rows[0]));
  return table('Exchanges', [
    { name: 'Exchange' }, { name: 'State' }, { name: 'Tunnels (most in 1 h)', short: 'Tunnels (max)', number: true }, { name: 'Rate', number: true, wide: true },
    { name: 'Last byte', number: true }, { name: 'Opened in 1 h', short: 'Opened 1 h', number: true }, { name: 'Failed in 1 h', short: 'Failed 1 h', number: true },
  ], list.map((e) => ({
    key: `${e.exchange}/${e.kind}`, bad: isBad(e.state),
    cells: [[exchangeLink(e.exchange), ' ', h('span', { class: 'dim' }, e.kind)], state(e, st, firsts.has(e)), [String(e.tunnels), h('span', { class: 'dim' }, ` (${e.tunnels_max})`)],
      rateCell(e), ago(e.last_byte, now), String(e.opened), failed(e)],
  })));
}

// ago writes how long ago, or nothing.
export const ago = (t, now) => { const a = age(t, now); return a && `${a} ago`; };

export function upstreamState(u) {
  return u.state ? h('span', { class: u.bad ? 'state bad' : 'state dim' }, u.state) : h('span', { class: 'state ok' }, 'ok');
}

function upstreamTable(list, st) {
  const now = Date.parse(st.time);
  return table('Upstreams', [
    { name: 'Upstream' }, { name: 'State' }, { name: 'Pools' }, { name: 'Tunnels', number: true }, { name: 'Opened since start', short: 'Opened', number: true }, { name: 'Failed since start', short: 'Failed', number: true },
  ], list.map((u) => ({
    key: u.name, bad: u.bad,
    cells: [upstreamLink(u.name), [upstreamState(u), (u.verdicts || []).filter((v) => v.verdict !== 'ok').slice(0, 3).map((v) => h('div', { class: 'dim' }, `${exchangeName(v.exchange)} ${v.kind}: ${verdictWords(v, now)}`))],
      u.pools.join(', '), String(u.tunnels), String(u.dials || 0), u.failures ? h('span', { class: 'warn' }, String(u.failures)) : '0'],
  })));
}

// verdictWords writes a verdict with how long it has held, and what is left of it.
export function verdictWords(v, now) {
  const left = isTime(v.until) ? `, ${span((Date.parse(v.until) - now) / 1000)} left` : '';
  return `${v.verdict} (for ${age(v.since, now)}${left}${v.from ? `; found by host ${v.from}` : ''})`;
}

export function budgetTable(list) {
  return table('Budgets', [
    { name: 'Exit' }, { name: 'Exchange' }, { name: 'Limit' }, { name: 'Left', number: true }, { name: 'Open', number: true }, { name: 'Waiting', number: true }, { name: 'Refused', number: true },
  ], list.map((b) => ({
    key: `${b.exit}/${b.exchange || ''}/${b.kind || ''}/${b.limit}`, bad: b.remaining === 0 && !b.watched,
    cells: [b.exit, b.exchange ? [exchangeLink(b.exchange), ' ', h('span', { class: 'dim' }, b.kind)] : 'all', b.limit + (b.whole ? ` (of ${b.whole})` : '') + (b.watched ? ' (watched only)' : ''),
      String(b.remaining), String(b.open), String(b.queued), String(b.refused)],
  })));
}

const ofNote = (p) => Boolean(p.gone || p.alone || p.config_differs || (p.lost || []).length > 0);

// fleetNote says how many processes there are, and of how many there is something to say.
function fleetNote(f) {
  const some = (of, words) => { const n = f.processes.filter(of).length; return n > 0 && `${n} ${words}`; };
  return [f.name, count(f.processes.filter((p) => !p.gone).length, 'process', 'processes'), some((p) => p.gone, 'gone'), some((p) => p.config_differs, 'with another configuration'),
    some((p) => (p.lost || []).length > 0, 'with lost exchanges')].filter(Boolean).join(' · ');
}

// fleetParts shows all hosts. Their names and texts are their own: they are text, and
// lead nowhere.
function fleetParts(s) {
  const f = s.fleet;
  const words = (p) => [p.host, p.version, p.config, ...(p.lost || [])].join(' ').toLowerCase();
  const list = f.processes.filter((p) => words(p).includes(s.filter.toLowerCase()));
  return [
    f.problem && h('p', { class: 'warn' }, `The other processes ${f.processes_read ? `are as they were last read, ${ago(f.processes_read, Date.parse(f.time))}` : 'have not been read yet'}: ${f.problem}.`),
    !f.redis_used && h('p', { class: 'warn' }, `Redis is not used here: ${f.why}.`),
    folded(s, 'process', list.toSorted((a, b) => Number(ofNote(b)) - Number(ofNote(a))), ofNote, 'fine', (some) => fleetTable(some, f)),
    f.budgets.length > 0 && table('Shared budgets', [
      { name: 'Exit' }, { name: 'Exchange' }, { name: 'Limit' }, { name: 'Used by all', number: true }, { name: 'Open at all', number: true },
    ], f.budgets.map((b) => ({
      key: `${b.exit}/${b.exchange || ''}/${b.kind || ''}`,
      cells: [b.exit, b.exchange ? [exchangeLink(b.exchange), ' ', h('span', { class: 'dim' }, b.kind)] : 'all', b.limit + (b.differs ? ' (hosts differ)' : ''), String(b.used), String(b.open)],
    }))),
    f.verdicts.length > 0 && table('Verdicts of all hosts', [{ name: 'Exit' }, { name: 'Exchange' }, { name: 'Verdict' }, { name: 'Found by' }, { name: 'Left', number: true }], f.verdicts.map((v) => ({
      key: `${v.exit}/${v.exchange}/${v.kind}`,
      cells: [v.exit, [v.exchange, ' ', h('span', { class: 'dim' }, v.kind)], [v.verdict, v.text && h('div', { class: 'dim' }, v.text)], v.from, span((Date.parse(v.until) - Date.parse(f.time)) / 1000)],
    }))),
  ];
}

function fleetTable(list, f) {
  const state = (p) => (p.gone ? ['gone', 'bad'] : p.retired ? ['retired', 'dim'] : p.alone ? ['own share', 'warn'] : ['ok', 'ok']);
  return table('Processes of the fleet', [
    { name: 'Host' }, { name: 'State' }, { name: 'Lost' }, { name: 'Version' }, { name: 'Configuration' }, { name: 'Last seen', number: true },
  ], list.map((p) => ({
    key: `${p.host}/${p.pid}/${p.config}`, bad: p.gone || (p.lost || []).length > 0,
    cells: [[p.host, ' ', h('span', { class: 'dim' }, `pid ${p.pid}${p.here ? ', this one' : ''}`)], h('span', { class: `state ${state(p)[1]}` }, state(p)[0]),
      (p.lost || []).length > 0 && h('span', { class: 'bad' }, p.lost.join(', ')), p.version, [h('code', null, p.config.slice(0, 8)), p.config_differs && h('span', { class: 'warn' }, ' differs')], ago(p.last_seen, Date.parse(f.time))],
  })));
}

function processFacts(st) {
  const now = Date.parse(st.time);
  const older = (st.older || []).map((p) => h('div', null, `generation ${p.generation} (pid ${p.pid}) still serves ${count(p.tunnels, 'tunnel')}, ${age(p.since, now)} after its hand-over`));
  return facts([
    ['Version', st.version],
    ['Running', `${age(st.started, now)}, pid ${st.pid}, generation ${st.generation}`],
    older.length > 0 && ['Older', older],
    ['Tunnels', String(st.active)],
    ['Configuration', [h('a', { href: '#/config' }, st.config.file || 'built-in defaults'), `, loaded ${age(st.config.loaded_at, now)} ago`]],
    (st.config.warnings || []).length > 0 && ['Warnings', h('a', { href: '#/config' }, count(st.config.warnings.length, 'warning'))],
    ['Listeners', st.listeners.map((l) => h('div', null, h('code', null, l.bound || l.address), l.use ? `, all through ${l.use}` : '', l.kind ? `, ${l.kind}` : '', l.reach && h('span', { class: 'dim' }, `, ${l.reach}`)))],
  ]);
}

// facts lists names and values; what is false is left out.
export const facts = (list) => h('dl', null, list.filter(Boolean).map(([name, value]) => h('div', { key: name }, h('dt', null, name), h('dd', null, value))));
