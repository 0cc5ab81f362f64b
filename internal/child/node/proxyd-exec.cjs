// Written by `proxyd exec`, and kept for programs that outlive it; see SECURITY.md.
//
// Makes what ignores the proxy variables use them: ws, and undici's Agent, by which
// ccxt asks REST. An agent or a connector that the program names itself stays.
// Nothing is loaded, and nothing changed, before the program loads one of these,
// by require or import. Node 18 and later.
'use strict'

const Module = require('module')

// environmentProxy returns the proxy's URL for a target, '' for a direct connection.
function environmentProxy(scheme, host, port) {
  const variable = name => process.env[name.toLowerCase()] || process.env[name.toUpperCase()] || ''
  for (const entry of variable('no_proxy').split(/[\s,]+/)) {
    if (entry === '*') return ''
    const m = /^\*?\.?(\[.*\]|.*?)(?::(\d+))?$/.exec(/:.*:/.test(entry) && entry[0] !== '[' ? '[' + entry + ']' : entry)
    const name = m[1].toLowerCase()
    if (name && (host === name || host.endsWith('.' + name)) && (!m[2] || m[2] === port)) return ''
  }
  for (const name of { wss: ['wss', 'https'], ws: ['ws', 'http'] }[scheme]) {
    const proxy = variable(name + '_proxy')
    if (proxy.startsWith('http://')) return proxy
  }
  return ''
}

// connect opens a tunnel to the target of options, and gives its socket to done.
function connect(proxy, secure, options, done) {
  const to = new URL(proxy)
  const host = options.host.includes(':') ? '[' + options.host + ']' : options.host
  const target = host + ':' + options.port
  const headers = { Host: target }
  if (to.username) {
    const login = decodeURIComponent(to.username) + ':' + decodeURIComponent(to.password)
    headers['Proxy-Authorization'] = 'Basic ' + Buffer.from(login).toString('base64')
  }
  const request = require('http').request({
    host: to.hostname.replace(/^\[|\]$/g, ''), port: to.port || 80,
    method: 'CONNECT', path: target, headers, agent: false, timeout: options.timeout
  })
  request.once('timeout', () => request.destroy(new Error('the proxy has not answered in ' + options.timeout + ' ms')))
  request.once('error', done)
  request.once('response', response => request.destroy(new Error('the proxy refused the connection: ' + response.statusCode)))
  request.once('connect', (response, socket, head) => {
    if (response.statusCode !== 200 || head.length > 0) {
      socket.destroy()
      return done(new Error('the proxy refused the connection: ' + response.statusCode + ' ' + response.statusMessage))
    }
    socket.setTimeout(0)
    if (!secure) return done(null, socket)
    const servername = options.servername || (require('net').isIP(options.host) ? '' : options.host)
    done(null, require('tls').connect(Object.assign({}, options, { socket, servername, path: undefined })))
  })
  request.end()
}

const agents = new Map()

// agent returns the agent that connects through a proxy.
function agent(proxy, secure) {
  const key = secure + ' ' + proxy
  if (!agents.has(key)) {
    const made = new (require(secure ? 'https' : 'http').Agent)()
    made.createConnection = (options, done) => connect(proxy, secure, options, done)
    agents.set(key, made)
  }
  return agents.get(key)
}

// withAgent returns the arguments of a WebSocket with an agent among them.
function withAgent(args) {
  let protocols = args[1], options = args[2], url
  if (typeof protocols === 'object' && protocols !== null && !Array.isArray(protocols)) {
    options = protocols
    protocols = []
  }
  if (options && (options.agent || options.createConnection)) return args
  try {
    url = new URL(String(args[0]))
  } catch (err) {
    return args // the original says so; null is the server's side
  }
  const scheme = { 'wss:': 'wss', 'https:': 'wss', 'ws:': 'ws', 'http:': 'ws' }[url.protocol]
  const secure = scheme === 'wss'
  const proxy = scheme && environmentProxy(scheme, url.hostname, url.port || (secure ? '443' : '80'))
  if (!proxy) return args
  return [args[0], protocols === undefined ? [] : protocols, Object.assign({}, options, { agent: agent(proxy, secure) })]
}

// constructs returns a class whose objects are made by make.
function constructs(original, make) {
  const changed = new Proxy(original, {
    construct: (target, args, from) => make(target, args, from === changed ? target : from)
  })
  return changed
}

function changeWS(module) {
  const original = module.exports
  if (typeof original !== 'function' || typeof original.prototype.terminate !== 'function') throw new Error('not as expected')
  module.exports = constructs(original, (target, args, from) => Reflect.construct(target, withAgent(args), from))
}

function changeUndici(module) {
  const undici = module.exports, original = undici.Agent, Environment = undici.EnvHttpProxyAgent
  if (typeof original !== 'function' || typeof Environment !== 'function') throw new Error('not as expected')
  undici.Agent = constructs(original, (target, args, from) => {
    const options = Object.assign({}, args[0])
    if (from !== target || typeof options.connect === 'function' || options.factory || options.socketPath) {
      return Reflect.construct(target, args, from)
    }
    if (options.connect) options.requestTls = options.connect
    return new Environment(options)
  })
}

const changes = [
  [/[\\/]node_modules[\\/]ws[\\/]lib[\\/]web[sS]ocket\.js$/, changeWS],
  [/[\\/]node_modules[\\/]undici[\\/]index\.js$/, changeUndici]
]

const compile = Module.prototype._compile
Module.prototype._compile = function (content, filename) {
  const result = compile.apply(this, arguments)
  for (const change of changes) {
    if (change[0].test(filename)) {
      try {
        change[1](this)
      } catch (err) {
        process.stderr.write('proxyd: exec: ' + filename + ' could not be made to use the proxy, and may connect directly: ' + err.message + '\n')
      }
    }
  }
  return result
}
