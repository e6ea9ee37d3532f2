"""The parts of the chain, one class each; the methods of a class are what a test can do to that part.

    Host            a machine, as an address                        host.py
    Universe        machines whose power and cables can fail        universe.py
    Process         a program: start, kill -9, hang, resume, stop   process.py
    TwoDoors        EMQ's two nodes, simulated by mosquitto         brokers.py
    RabbitPair      EMQ's two nodes, simulated by RabbitMQ          rabbitmq.py
    EjabberdPair    EMQ's two nodes, simulated by ejabberd          ejabberd.py
    HiveMQ          EMQ's two nodes, simulated by HiveMQ CE         hivemq.py
    External        brokers that this harness did not start         brokers.py
    HAProxy         the shipped haproxy.cfg                         haproxy.py
    KafkaCluster    real Kafka, one or three nodes                  kafka.py
    BridgeProcess   the bridge itself                               bridge.py
    Devices         publishers                                      devices.py
    Verifier        a consumer that checks what is in Kafka         verifier.py
    RecordingRelay  records MQTT between HAProxy and bridge         relay.py
    Client          an MQTT client without automatic answers        client.py
    ScriptedBroker  a broker whose packets the test chooses         scripted.py
    SimulatedBroker numbers and resends like a family of brokers    simulated.py
    TlsDoor         TLS in front of any of these brokers            tls.py

Tests and deploy/lab use the same classes; kit.py installs what both need. A process, a node and a machine are
failed by calls that look alike:

    with emq.node(1).hung():
        ...
    with kafka.node(2).dead():
        ...
    with universe.power_cut(haproxy), universe.cable_out(universe.bridge):
        ...
"""
