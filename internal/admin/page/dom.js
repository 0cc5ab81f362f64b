// The page is described as a tree and laid over the document: what is the same
// stays, so that focus, selection and scroll stay too. Text goes in as text only.

const SVG = 'http://www.w3.org/2000/svg';
const svgTags = new Set(['svg', 'polyline', 'title']);

// h describes an element. In props are attributes, and:
//   key      which of its siblings it is, where they come and go
//   on       {event: function}
//   initial  properties that are set once, since the reader changes them: {value: 'x'}
// Children that are null, undefined or false are left out.
export function h(tag, props, ...children) {
  return { tag, props: props || {}, children: children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false) };
}

// render lays children over what parent holds.
export function render(parent, ...children) {
  const focused = document.activeElement;
  patch(parent, h('', null, children).children);
  if (focused && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true }); // a row that moved has lost it
  }
}

function keyOf(c, i) {
  return typeof c === 'object' ? `${c.tag} ${c.props.key ?? i}` : `text ${i}`;
}

function patch(parent, children) {
  const have = new Map();
  const want = new Set(children.map(keyOf));
  for (const node of [...parent.childNodes]) {
    if (want.has(node.pageKey)) have.set(node.pageKey, node);
    else node.remove();
  }
  let at = parent.firstChild;
  children.forEach((c, i) => {
    const key = keyOf(c, i);
    const node = have.get(key) || create(c, key);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    update(node, c);
  });
}

function create(c, key) {
  let node;
  if (typeof c !== 'object') node = document.createTextNode('');
  else if (svgTags.has(c.tag)) node = document.createElementNS(SVG, c.tag);
  else node = document.createElement(c.tag);
  node.pageKey = key;
  node.pageProps = {};
  node.pageOn = {};
  if (typeof c === 'object') Object.assign(node, c.props.initial);
  return node;
}

function update(node, c) {
  if (typeof c !== 'object') {
    if (node.data !== String(c)) node.data = String(c);
    return;
  }
  const before = node.pageProps;
  for (const [name, value] of Object.entries(c.props)) {
    if (name === 'key' || name === 'initial') continue;
    if (name === 'on') listen(node, value);
    else if (value === false || value === null || value === undefined) node.removeAttribute(name);
    else if (before[name] !== value) node.setAttribute(name, value === true ? '' : value);
  }
  for (const name of Object.keys(before)) {
    if (!(name in c.props)) node.removeAttribute(name);
  }
  node.pageProps = c.props;
  patch(node, c.children);
}

function listen(node, handlers) {
  for (const [type, f] of Object.entries(handlers)) {
    if (!node.pageOn[type]) node.addEventListener(type, (e) => node.pageOn[type](e));
    node.pageOn[type] = f;
  }
}

// table describes a table. columns: {name, number, short, wide}, the last two for a
// narrow screen: the name there, and whether the cell takes all of it. rows: {key,
// bad, cells}, the first cell of which names the row. On a narrow screen each row is
// a card, so the roles are written out: a browser forgets them with the layout.
export function table(caption, columns, rows) {
  const cell = (content, i) => h(i === 0 ? 'th' : 'td', {
    class: columns[i].number && (columns[i].wide ? 'n wide' : 'n'), role: i === 0 ? 'rowheader' : 'cell', scope: i === 0 && 'row', 'data-label': columns[i].short || columns[i].name,
  }, i === 0 ? content : h('span', { class: 'v' }, isEmpty(content) ? h('span', { class: 'dim' }, '–') : content));
  return h('table', { role: 'table', class: 'cards' },
    h('caption', { class: 'hidden' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map((c) => h('th', { scope: 'col', role: 'columnheader', class: c.number && 'n' }, c.name)))),
    h('tbody', { role: 'rowgroup' }, rows.map((r) => h('tr', { key: r.key, role: 'row', class: r.bad && 'bad-row' }, r.cells.map(cell)))));
}

const isEmpty = (content) => content === undefined || content === null || content === '';

// sparkline draws one value a second, the newest at the right.
export function sparkline(values, words) {
  if (!values || values.length < 2) return null;
  const top = Math.max(...values, 1);
  if (top === 1 && !values.some((v) => v > 0)) return null; // a line of zeros says less than "0 B/s"
  const points = values.map((v, i) => `${((i * 100) / (values.length - 1)).toFixed(1)},${(19 - (18 * v) / top).toFixed(1)}`);
  return h('svg', { class: 'spark', viewBox: '0 0 100 20', preserveAspectRatio: 'none', role: 'img', 'aria-label': words },
    h('polyline', { class: 'area', points: `0,20 ${points.join(' ')} 100,20` }), h('polyline', { points: points.join(' ') }));
}
