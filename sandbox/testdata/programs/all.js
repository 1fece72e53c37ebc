const fs = require("fs"), http = require("http"), child = require("child_process");
const { Worker } = require("worker_threads");

(async () => {
  const out = [];
  fs.writeFileSync("/tmp/f", "x");
  await fs.promises.copyFile("/tmp/f", "/tmp/g");
  out.push("file " + ((await fs.promises.readFile("/tmp/g")).toString() === "x"));
  await new Promise((done) => {
    new Worker("require('worker_threads').parentPort.postMessage(7)", { eval: true }).on("message", (m) => {
      out.push("worker " + m);
      done();
    });
  });
  out.push("child " + child.spawnSync("sh", ["-c", "exit 5"]).status);
  const server = http.createServer((_, answer) => answer.end("pong")).listen(0, "127.0.0.1");
  await new Promise((done) => server.on("listening", done));
  const answer = await fetch("http://127.0.0.1:" + server.address().port);
  out.push("http " + (await answer.text()));
  console.log(out.join(" "));
  process.exit(0);
})();
