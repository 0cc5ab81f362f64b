// How times, rates and states are written.

const units = ['B', 'kB', 'MB', 'GB', 'TB'];

// bytes writes a size: "1.2 MB".
export function bytes(n) {
  let unit = 0;
  for (; n >= 999.5 && unit < units.length - 1; unit++) n /= 1000;
  return `${n >= 9.95 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

export const rate = (n) => `${bytes(n || 0)}/s`;

// isTime reports whether the server gave a time at all.
export const isTime = (t) => Boolean(t) && !t.startsWith('0001-');

// span writes a number of seconds: its two largest units.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// age is how long before now, the server's clock, a time was; "" for none.
export const age = (t, now) => (isTime(t) ? span((now - Date.parse(t)) / 1000) : '');

// zone returns the time zone of a time as the server wrote it, in ms. All times
// are the server's, as they are in its log and in line 1.
function zone(t) {
  const [, sign, hours, minutes] = /([+-])(\d\d):(\d\d)$/.exec(t) || [0, '+', 0, 0];
  return (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -60000 : 60000);
}

// clock writes the time of day, with the date where it is not today's.
export function clock(t, now) {
  if (!isTime(t)) return '';
  const [day, time] = [t.slice(0, 10), t.slice(11, 19)];
  return day === new Date(now + zone(t)).toISOString().slice(0, 10) ? time : `${day} ${time}`;
}

// later returns the time that is ms after t, as the server would write it.
export function later(t, ms) {
  const offset = /(Z|[+-]\d\d:\d\d)$/.exec(t)[0];
  return new Date(Date.parse(t) + ms + zone(t)).toISOString().slice(0, -1) + offset;
}

export const count = (n, one, many) => `${n} ${n === 1 ? one : many || `${one}s`}`;

const stateWords = { lost: 'lost', silent: 'silent', ok: 'ok', idle: 'idle', no_traffic: 'no traffic yet' };

export const isBad = (state) => state === 'lost' || state === 'silent';

// isDegraded reports whether an exchange and kind is served, and something is wrong.
export const isDegraded = (e) => e.state === 'ok' && Boolean(e.cause);

// stateWord returns the state of an exchange and kind in words.
export const stateWord = (e) => (e.retrying ? 'retrying' : isDegraded(e) ? 'degraded' : stateWords[e.state] || e.state);

export const exchangeName = (id) => id || 'other hosts';
