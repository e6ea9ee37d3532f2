// Publishes a file at QoS 0, 1 and 2 with Eclipse Paho's client for MQTT 5:
//
//	publish5 HOST PORT 5 TOPIC FILE
package main

import (
	"context"
	"log"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

func main() {
	host, port, topic, file := os.Args[1], os.Args[2], os.Args[4], os.Args[5]
	payload, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	broker := &url.URL{Scheme: "mqtt", Host: net.JoinHostPort(host, port)}
	client, err := autopaho.NewConnection(patience, autopaho.ClientConfig{
		ServerUrls: []*url.URL{broker},
		KeepAlive:  20,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.AwaitConnection(patience); err != nil {
		log.Fatal("CONNECT: ", err)
	}
	for qos := byte(0); qos <= 2; qos++ {
		message := &paho.Publish{
			Topic:   topic,
			QoS:     qos,
			Payload: payload,
			Properties: &paho.PublishProperties{
				ContentType: "application/octet-stream",
				User:        paho.UserProperties{{Key: "unit", Value: "celsius"}},
			},
		}
		if _, err := client.Publish(patience, message); err != nil {
			log.Fatal("PUBLISH: ", err)
		}
	}
	if err := client.Disconnect(patience); err != nil {
		log.Fatal("DISCONNECT: ", err)
	}
}
