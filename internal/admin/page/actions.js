// What the page changes: each is one POST, and its answer is shown as it came.
import { h, render } from './dom.js';
import { count } from './words.js';

const dialog = document.getElementById('dialog');
const answer = document.getElementById('answer');

// post asks the server for a change and shows the answer until it is dismissed.
export async function post(path, query, words) {
  show(`${words} …`, '');
  try {
    const resp = await fetch(`${path}?${new URLSearchParams(query)}`, { method: 'POST', headers: { 'X-Proxyd': '1' } });
    const text = await resp.text();
    show(`${words}: ${resp.ok ? 'done' : `refused (${resp.status})`}`, report(text), !resp.ok);
  } catch {
    show(`${words}: no answer`, 'proxyd cannot be reached; whether it was done is not known', true);
  }
}

// report turns a reload's report into lines; other answers are text.
function report(text) {
  if (!text.startsWith('{')) return text.trim();
  const r = JSON.parse(text);
  if (!r.changes) return text.trim();
  const lines = [...r.faults, ...r.changes, ...r.warnings.map((w) => `warning: ${w}`)];
  return lines.join('\n') || 'no change';
}

function show(title, text, bad) {
  render(answer, h('div', { class: bad ? 'answer bad-edge' : 'answer' },
    h('p', null, h('strong', null, title)), text && h('pre', null, text),
    h('button', { type: 'button', on: { click: () => render(answer) } }, 'Dismiss')));
}

// confirm asks before something ends. choice: {label, options: [[value, words]]}.
function confirm(title, text, verb, act, choice) {
  let chosen = choice && choice.options[0][0];
  const done = () => { dialog.close(); act(chosen); };
  render(dialog); // nothing of the last question stays
  render(dialog,
    h('h2', { id: 'dialog-title' }, title), h('p', null, text),
    choice && h('p', null, h('label', null, choice.label, ' ', h('select', { on: { change: (e) => { chosen = e.target.value; } } },
      choice.options.map(([value, words]) => h('option', { value }, words))))),
    h('p', { class: 'buttons' },
      button('Cancel', () => dialog.close(), { autofocus: true }),
      button(verb, done, { class: 'danger' })));
  dialog.showModal();
}

const button = (words, click, props) => h('button', { key: words, type: 'button', ...props, on: { click } }, words);

// reloadButtons loads the file again, or only says what that would change.
export const reloadButtons = () => h('p', { class: 'buttons' },
  button('Check the file', () => post('/-/reload', { dry_run: 1 }, 'Check of the file')),
  button('Reload', () => post('/-/reload', {}, 'Reload')));

// upstreamButtons drain and resume an upstream, and close its tunnels.
export function upstreamButtons(u) {
  return h('p', { class: 'buttons' },
    u.drained
      ? button('Resume', () => post('/-/resume', { upstream: u.name }, `Resume ${u.name}`))
      : button('Drain', () => post('/-/drain', { upstream: u.name }, `Drain ${u.name}`)),
    button('Close tunnels…', () => closeTunnels({ upstream: u.name }, u.tunnels), { disabled: u.tunnels === 0 }));
}

// closeTunnels ends the tunnels that match, after a question.
export function closeTunnels(filter, n) {
  const whose = Object.values(filter).join(', ');
  confirm(`Close ${count(n, 'tunnel')} of ${whose}?`, 'Their clients lose the connection and will open it again.', 'Close them',
    (over) => post('/-/close', over === '0' ? filter : { ...filter, over }, `Close tunnels of ${whose}`),
    { label: 'When:', options: [['0', 'at once'], ['10', 'spread over 10 s'], ['60', 'spread over 1 min']] });
}

// closeTunnel ends one tunnel, after a question.
export function closeTunnel(t) {
  confirm(`Close tunnel ${t.id}?`, `${t.host}:${t.port} through ${t.upstream}. Its client loses the connection.`, 'Close it',
    () => post('/-/close', { id: t.id }, `Close tunnel ${t.id}`));
}
