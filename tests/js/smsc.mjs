// A message centre (SMPP 3.4) for the tests, by npm `smpp`. Prints one JSON object a line: {"port"}, then what happens.
import smpp from "smpp";

const [password, trouble] = process.argv.slice(2);
const say = (event) => console.log(JSON.stringify(event));
// How the number decides what a centre says to it: the last two digits of 90 and more are refusals.
const refusals = { 91: 0x0b, 92: 0x58, 93: 0x45 };

const server = smpp.createServer({}, (session) => {
  session.on("error", () => {});
  session.on("bind_transceiver", (pdu) => {
    const good = pdu.system_id === "codes" && pdu.password === password;
    say({ bind: pdu.system_id, version: pdu.interface_version, good });
    session.send(pdu.response({ command_status: good ? 0 : 0x0e }));
    if (!good) return session.close();
    // The centre asks as well, and hangs up on whoever does not answer.
    session.enquire_link({}, (answer) => say({ enquired: answer.command_status }));
    session.deliver_sm({ source_addr: "1", destination_addr: "2", short_message: "receipt" }, (answer) =>
      say({ delivered: answer.command_status }),
    );
  });
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => {
    say({ unbound: true });
    session.send(pdu.response());
    session.close();
  });
  session.on("submit_sm", (pdu) => {
    if (trouble === "hang-up") return session.destroy();
    const status = refusals[pdu.destination_addr.slice(-2)] ?? 0;
    const text = pdu.short_message.message;
    const udh = pdu.short_message.udh ? [...pdu.short_message.udh].map((part) => [...part]) : null;
    say({
      to: pdu.destination_addr,
      ton: [pdu.source_addr_ton, pdu.dest_addr_ton, pdu.dest_addr_npi],
      from: pdu.source_addr,
      text: Buffer.isBuffer(text) ? text.toString("latin1") : text,
      udh,
      esm: pdu.esm_class,
      minutes: Math.round((pdu.validity_period - Date.now()) / 60000),
      status,
    });
    session.send(pdu.response({ command_status: status, message_id: "m1" }));
  });
});
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
