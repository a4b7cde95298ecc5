// Loaded before a server that has no option for its interface: it listens on loopback only.
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, host, ...rest) {
  const others = typeof host === "string" || host === undefined ? rest : [host, ...rest];
  return listen.call(this, port, "127.0.0.1", ...others);
};
