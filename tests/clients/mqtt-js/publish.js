// Publishes a file at QoS 0, 1 and 2 with MQTT.js: node publish.js HOST PORT 5|3.1.1 TOPIC FILE
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [host, port, version, topic, file] = process.argv.slice(2);
const payload = readFileSync(file);

const client = await mqtt.connectAsync({
  host,
  port: Number(port),
  protocolVersion: version === "5" ? 5 : 4,
  reconnectPeriod: 0,
});
const properties =
  version === "5"
    ? { contentType: "application/octet-stream", userProperties: { unit: "celsius" } }
    : undefined;
for (const qos of [0, 1, 2]) {
  await client.publishAsync(topic, payload, { qos, properties });
}
await client.endAsync();
