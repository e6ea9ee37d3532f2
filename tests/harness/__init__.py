"""The actors of the chain, one class each, whose verbs are what happens to them.

    Host            a place with an address                         host.py
    Universe        machines whose power and cables can fail        universe.py
    Process         a program: start, kill -9, hang, resume, stop   process.py
    TwoDoors        EMQ's two nodes, played by mosquitto            brokers.py
    RabbitPair      EMQ's two nodes, played by a RabbitMQ cluster   rabbitmq.py
    EjabberdPair    EMQ's two nodes, played by an ejabberd cluster  ejabberd.py
    HiveMQ          EMQ's two nodes, played by HiveMQ CE            hivemq.py
    External        brokers that this harness did not start         brokers.py
    HAProxy         the shipped haproxy.cfg                         haproxy.py
    KafkaCluster    real Kafka, one or three nodes                  kafka.py
    BridgeProcess   the bridge itself                               bridge.py
    Devices         publishers                                      devices.py
    Verifier        what came out of Kafka                          verifier.py
    RecordingRelay  a cable between bridge and HAProxy, with notes  relay.py
    Client          a client that does nothing unasked              client.py
    ScriptedBroker  a broker that does what a test says             scripted.py
    SimulatedBroker a broker family: how it numbers and resends     simulated.py
    TlsDoor         TLS in front of any of them                     tls.py

Tests and deploy/lab are built on the same classes, and kit.py gets both what they need. Whatever a
process could be killed by, the verbs read alike:

    with emq.node(1).hung():
        ...
    with kafka.node(2).dead():
        ...
    with universe.power_cut(haproxy), universe.cable_out(universe.bridge):
        ...
"""
