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

// clock writes the time of day, with the date where it is not today's.
export function clock(t, now) {
  if (!isTime(t)) return '';
  const at = new Date(t);
  const time = at.toLocaleTimeString('en-GB');
  const today = new Date(now).toDateString() === at.toDateString();
  return today ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

const two = (n) => String(n).padStart(2, '0');

export const count = (n, one, many) => `${n} ${n === 1 ? one : many || `${one}s`}`;

export const stateWords = { lost: 'lost', silent: 'silent', ok: 'ok', idle: 'idle', no_traffic: 'no traffic yet' };

export const isBad = (state) => state === 'lost' || state === 'silent';

export const exchangeName = (id) => id || 'other hosts';
