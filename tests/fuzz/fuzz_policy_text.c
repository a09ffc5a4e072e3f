/* link: postern_cli */
/* Policy files, as people write them: what is accepted is written as YAML and read back to the
 * same; what is not is refused with a reason and a place. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/message.h"
#include "postern/v1/document.pb-c.h"

static void must(bool hold)
{
	if (!hold)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *packed(const ProtobufCMessage *message, size_t *ret_size)
{
	*ret_size = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(*ret_size + 1);
	protobuf_c_message_pack(message, bytes);
	return bytes;
}

static void read_back(const struct message_file *file)
{
	struct message_file *again = NULL;
	struct error err = {0};
	char *text = NULL;
	size_t size, first_size, second_size;
	FILE *out = open_memstream(&text, &size);
	must(message_write_yaml(out, file->message));
	fclose(out);
	enum status status = message_read_bytes(
		"again", text, size, &postern__v1__policy_document__descriptor, &again, &err);
	must(status == STATUS_OK);
	uint8_t *first = packed(file->message, &first_size);
	uint8_t *second = packed(again->message, &second_size);
	must(first_size == second_size && memcmp(first, second, first_size) == 0);
	free(first);
	free(second);
	free(text);
	message_file_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message_file *file = NULL;
	struct error err = {0};
	char place[200];
	if (message_read_bytes("policy.yaml", (const char *)data, size,
		    &postern__v1__policy_document__descriptor, &file, &err) != STATUS_OK) {
		must(strncmp(err.text, "policy.yaml:", 12) == 0);
		return 0;
	}
	(void)message_place(file, "protocol_rules[0].clients[1]", place, sizeof place);
	(void)message_place(file, "tests[3]", place, sizeof place);
	read_back(file);
	message_file_free(file);
	return 0;
}
