/* Publishes a file at QoS 0, 1 and 2 with Eclipse Paho's C client: publish HOST PORT 5|3.1.1 TOPIC FILE
 *
 * cc -o publish publish.c -lpaho-mqtt3c
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE 10000L /* ms */

static void require(int done, const char *what, int code)
{
    if (!done) {
        fprintf(stderr, "%s: %d\n", what, code);
        exit(1);
    }
}

static MQTTProperty text(enum MQTTPropertyCodes identifier, char *value)
{
    MQTTProperty property = {.identifier = identifier};
    property.value.data = (MQTTLenString){(int)strlen(value), value};
    return property;
}

int main(int count, char **arguments)
{
    require(count == 6, "arguments", count);
    int mqtt5 = strcmp(arguments[3], "5") == 0;

    char payload[4096];
    FILE *file = fopen(arguments[5], "rb");
    require(file != NULL, arguments[5], 0);
    int size = (int)fread(payload, 1, sizeof payload, file);
    fclose(file);

    char address[128];
    snprintf(address, sizeof address, "tcp://%s:%s", arguments[1], arguments[2]);
    MQTTClient client;
    MQTTClient_createOptions creation = MQTTClient_createOptions_initializer;
    creation.MQTTVersion = mqtt5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    int code = MQTTClient_createWithOptions(
        &client, address, "", MQTTCLIENT_PERSISTENCE_NONE, NULL, &creation);
    require(code == MQTTCLIENT_SUCCESS, "create", code);

    MQTTClient_message message = MQTTClient_message_initializer;
    message.payload = payload;
    message.payloadlen = size;

    if (mqtt5) {
        MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
        code = MQTTClient_connect5(client, &options, NULL, NULL).reasonCode;
        MQTTProperty type = text(MQTTPROPERTY_CODE_CONTENT_TYPE, "application/octet-stream");
        MQTTProperty unit = text(MQTTPROPERTY_CODE_USER_PROPERTY, "unit");
        unit.value.value = (MQTTLenString){7, "celsius"};
        MQTTProperties_add(&message.properties, &type);
        MQTTProperties_add(&message.properties, &unit);
    } else {
        MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
        options.MQTTVersion = MQTTVERSION_3_1_1;
        code = MQTTClient_connect(client, &options);
    }
    require(code == MQTTCLIENT_SUCCESS, "CONNECT", code);

    for (int qos = 0; qos <= 2; qos++) {
        MQTTClient_deliveryToken token;
        message.qos = qos;
        if (mqtt5)
            code = MQTTClient_publishMessage5(client, arguments[4], &message, &token).reasonCode;
        else
            code = MQTTClient_publishMessage(client, arguments[4], &message, &token);
        require(code == MQTTCLIENT_SUCCESS, "PUBLISH", code);
        code = MQTTClient_waitForCompletion(client, token, PATIENCE);
        require(code == MQTTCLIENT_SUCCESS, "no answer to PUBLISH", code);
    }

    code = mqtt5 ? MQTTClient_disconnect5(client, PATIENCE, MQTTREASONCODE_SUCCESS, NULL)
                 : MQTTClient_disconnect(client, PATIENCE);
    require(code == MQTTCLIENT_SUCCESS, "DISCONNECT", code);
    MQTTProperties_free(&message.properties);
    MQTTClient_destroy(&client);
    return 0;
}
