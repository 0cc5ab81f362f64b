// The views of one exchange, one upstream and the configuration.
import { h, table } from './dom.js';
import { age, bytes, clock, count, isTime, rate } from './words.js';
import { eventTable } from './events.js';
import { ago, budgetTable, byState, exchangeLink, facts, failed, rateCell, section, state, upstreamLink, upstreamState } from './overview.js';
import { closeTunnel, closeTunnels, reloadButtons, upstreamButtons } from './actions.js';

const ms = (n) => (n > 0 ? `${n < 10 ? n.toFixed(1) : Math.round(n)} ms` : '');

// ended writes when and how a tunnel ended.
const ended = (c, now) => `${clock(c.time, now)}, by ${c.by === 'proxyd' ? 'proxyd' : `the ${c.by}`} (${c.reason})`;

const title = (kind, name) => h('h2', { key: 'title', class: 'title' }, h('span', { class: 'dim' }, `${kind} `), name);

const latest = (s, of) => {
  const list = s.events.filter(of).slice(0, 20);
  return section('its-events', 'Events', '', list.length > 0 ? eventTable(list, s.status) : h('p', { class: 'dim' }, s.eventsNote ? 'None.' : 'loading …'));
};

export function exchangeView(s, id) {
  const st = s.status;
  const now = Date.parse(st.time);
  const rows = byState(st.exchanges.filter((e) => e.exchange === id));
  const tunnels = rows.reduce((n, e) => n + e.tunnels, 0);
  if (rows.length === 0) {
    return [title('Exchange', id), h('p', null, 'It is not in the configuration, and nothing has asked for it in the last hour. ', h('a', { href: '#/' }, 'All exchanges'))];
  }
  return [
    title('Exchange', id),
    rows.map((e) => section(`kind-${e.kind}`, e.kind, e.outbound ? `through ${e.outbound}` : '', facts([
      ['State', state(e, st)],
      ...(e.state === 'no_traffic' ? [] : kindFacts(e, now)),
    ]))),
    section('feeds', 'Feeds', 'by upstream', feedTable(s.feeds.filter((f) => f.exchange === id), now, (f) => [upstreamLink(f.upstream), ' ', h('span', { class: 'dim' }, f.kind)])),
    tunnelSection(s, { exchange: id }, tunnels),
    latest(s, (e) => e.exchange === id),
  ];
}

function kindFacts(e, now) {
  return [
    ['Tunnels', `${e.tunnels} now, ${e.tunnels_max} at most in the last hour`],
    ['Rate', [rateCell(e), h('span', { class: 'dim' }, ` ${rate(e.down.minute)} in the last minute, ${rate(e.up.second)} from clients`)]],
    ['Last byte', ago(e.last_byte, now) || 'none yet'],
    ['Last hour', `${e.opened} opened, ${e.closed} closed, ${e.failed} failed; ${e.reconnects} reconnects in the last minute`],
    e.open_p50_ms > 0 && ['Time to open', `${ms(e.open_p50_ms)} (median), ${ms(e.open_p99_ms)} (p99)`],
    e.last_close && ['Last end', ended(e.last_close, now)],
    e.last_failure && ['Last failure', [`${clock(e.last_failure.time, now)} `, e.last_failure.class, e.last_failure.upstream && [' by ', upstreamLink(e.last_failure.upstream)], h('div', { class: 'dim' }, e.last_failure.text)]],
  ];
}

function feedTable(list, now, name) {
  if (list.length === 0) return h('p', { class: 'dim' }, 'None has carried traffic in the last hour.');
  return table('Feeds', [
    { name: 'Feed' }, { name: 'Tunnels (most in 1 h)', short: 'Tunnels (max)', number: true }, { name: 'Rate', number: true }, { name: 'Last byte', number: true },
    { name: 'Opened / closed / failed in 1 h', short: 'Last hour', number: true, wide: true }, { name: 'Time to open', number: true }, { name: 'Last end' },
  ], list.map((f) => ({
    key: `${f.exchange}/${f.kind}/${f.upstream}`, bad: Boolean(f.silence),
    cells: [[name(f), f.silence && h('div', { class: 'bad' }, f.silence.text)], [String(f.tunnels), h('span', { class: 'dim' }, ` (${f.tunnels_max})`)], rate(f.down.second), ago(f.last_byte, now),
      [`${f.opened} / ${f.closed} / `, failed(f)], ms(f.open_p50_ms), f.last_close && ended(f.last_close, now)],
  })));
}

// tunnelSection lists the tunnels when it is opened, and again when asked.
function tunnelSection(s, filter, n) {
  const got = s.tunnels;
  const now = Date.parse(got.time || s.status.time);
  return section('tunnels', 'Tunnels', '',
    h('p', { class: 'buttons' },
      h('button', { type: 'button', on: { click: () => s.loadTunnels(filter) } }, 'Refresh'),
      filter.exchange && h('button', { type: 'button', disabled: n === 0, on: { click: () => closeTunnels(filter, n) } }, 'Close tunnels…'),
      h('span', { class: 'dim' }, got.note)),
    got.list.length > 0 && table('Tunnels', [
      { name: 'Tunnel' }, { name: 'Target' }, { name: 'Through' }, { name: 'Client' }, { name: 'Open for', number: true }, { name: 'Received', number: true }, { name: 'Rate', number: true }, { name: 'Last byte', number: true }, { name: 'Close' },
    ], got.list.map((t) => ({
      key: t.id, bad: t.silent,
      cells: [h('code', null, t.id), [`${t.host}:${t.port}`, t.silent && h('div', { class: 'bad' }, 'silent'), t.client_stalled && h('div', { class: 'warn' }, 'the client does not read')], upstreamLink(t.upstream),
        [t.client, t.user && ` (${t.user})`], age(t.started, now), bytes(t.bytes_down), t.down && rate(t.down.second), ago(t.last_byte, now),
        h('button', { type: 'button', class: 'small', 'aria-label': `Close tunnel ${t.id}`, on: { click: () => closeTunnel(t) } }, 'Close…')],
    }))));
}

export function upstreamView(s, name) {
  const st = s.status;
  const now = Date.parse(st.time);
  const u = st.upstreams.find((one) => one.name === name);
  if (!u) return [title('Upstream', name), h('p', null, 'The configuration in force has none of that name. ', h('a', { href: '#/' }, 'All upstreams'))];
  const e = u.ejection;
  const verdicts = u.verdicts || [];
  const pairs = u.pairs || [];
  const budgets = (st.budgets || []).filter((b) => (u.exits || []).includes(b.exit));
  const feeds = s.feeds.filter((f) => f.upstream === name);
  return [
    title('Upstream', name),
    upstreamButtons(u),
    facts([
      ['State', [upstreamState(u), e && h('div', { class: 'dim' }, `since ${clock(e.since, now)}, at least until ${clock(e.until, now)}; last failure ${age(e.last, now)} ago`)]],
      ['Address', h('code', null, u.url)],
      ['Pools', u.pools.join(', ') || 'none'],
      ['Exit', (u.exits || []).join(', ') || 'its own'],
      isTime(u.certificate_expires) && ['Certificate', `expires ${clock(u.certificate_expires, now)}`],
      ['Tunnels', String(u.tunnels)],
      ['Since start', `${count(u.dials || 0, 'connection')} opened, ${u.failures || 0} failed`],
    ]),
    section('verdicts', 'Verdicts', '', verdicts.length === 0 ? h('p', { class: 'dim' }, 'None: no exchange is known to treat this upstream differently from others.') : table('Verdicts', [{ name: 'Exchange' }, { name: 'Verdict' }, { name: 'Since' }, { name: 'Until' }],
      verdicts.map((v) => ({ key: `${v.exchange}/${v.kind}`, bad: v.verdict !== 'ok', cells: [named(v), v.verdict, `${clock(v.since, now)} (${age(v.since, now)})`, isTime(v.until) ? clock(v.until, now) : ''] })))),
    pairs.length > 0 && section('pairs', 'Dials', 'by exchange', table('Dials', [{ name: 'Exchange' }, { name: 'Dial time', number: true }, { name: 'Tunnels', number: true }, { name: 'State' }],
      pairs.map((p) => ({ key: `${p.exchange}/${p.kind}`, cells: [named(p), ms(p.dial_ms), String(p.tunnels), [p.drained && 'drained ', p.degraded && 'degraded: slow']] })))),
    feeds.length > 0 && section('feeds', 'Feeds', '', feedTable(feeds, now, named)),
    budgets.length > 0 && section('budgets', 'Budgets', '', budgetTable(budgets)),
    tunnelSection(s, { upstream: name }, u.tunnels),
    latest(s, (one) => one.upstream === name),
  ];
}

const named = (p) => [exchangeLink(p.exchange), ' ', h('span', { class: 'dim' }, p.kind)];

export function configView(s) {
  const st = s.status;
  const now = Date.parse(st.time);
  const c = s.config;
  const last = c && c.last_reload;
  return [
    title('Configuration', st.config.file || 'built-in defaults'),
    reloadButtons(),
    facts([
      ['In force', st.config.in_force ? 'yes, as on disk' : h('strong', { class: 'bad' }, 'no: the file on disk is not the configuration in force')],
      ['Loaded', `${clock(st.config.loaded_at, now)} (${age(st.config.loaded_at, now)} ago)`],
      st.config.faults.length > 0 && ['Errors', h('ul', { class: 'bad' }, st.config.faults.map((f) => h('li', null, f)))],
      (st.config.warnings || []).length > 0 && ['Warnings', h('ul', null, st.config.warnings.map((w) => h('li', null, w)))],
    ]),
    last && section('last', 'Last reload', `${clock(last.time, now)}, by ${last.by}: ${last.applied ? 'applied' : 'refused'}`,
      last.faults.length > 0 && h('ul', { class: 'bad' }, last.faults.map((f) => h('li', null, f))),
      last.changes.length > 0 && h('pre', null, last.changes.join('\n')),
      last.warnings.length > 0 && h('ul', null, last.warnings.map((w) => h('li', null, w))),
      last.applied && last.changes.length === 0 && h('p', { class: 'dim' }, 'No change.')),
    section('yaml', 'In force', 'secrets masked', c ? h('pre', { tabindex: '0', role: 'region', 'aria-label': 'the configuration as YAML' }, c.yaml) : h('p', { class: 'dim' }, s.configNote || 'loading …')),
  ];
}
