// Publishes a file at QoS 0, 1 and 2 with Eclipse Paho's client for MQTT 3.1.1:
//
//	publish311 HOST PORT 3.1.1 TOPIC FILE
package main

import (
	"log"
	"net"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 10 * time.Second

func main() {
	host, port, topic, file := os.Args[1], os.Args[2], os.Args[4], os.Args[5]
	payload, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}

	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + net.JoinHostPort(host, port)).
		SetProtocolVersion(4).
		SetAutoReconnect(false)
	client := mqtt.NewClient(options)
	await("CONNECT", client.Connect())
	for qos := byte(0); qos <= 2; qos++ {
		await("PUBLISH", client.Publish(topic, qos, false, payload))
	}
	client.Disconnect(250)
}

// await ends the program unless the broker has answered, where it has to.
func await(what string, token mqtt.Token) {
	if !token.WaitTimeout(patience) {
		log.Fatalf("%s: no answer within %s", what, patience)
	}
	if err := token.Error(); err != nil {
		log.Fatalf("%s: %s", what, err)
	}
}
