/* link: postern_cli */
/* Rulesets of others, as policy import reads them: whatever it makes of them can be written and
 * read again, and the document has a rule for each that it says it translated, of another name. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/import/import.h"
#include "client/text/message.h"

static void must(bool hold)
{
	if (!hold)
		abort();
}

static void check_document(const struct import *import)
{
	const Postern__V1__PolicyDocument *document = &import->document;

	must(document->n_protocol_rules == import->rules);
	must(document->n_site_and_content_rules == import->rules);
	for (size_t i = 0; i < import->rules && i < 300; i++)
		for (size_t j = 0; j < i; j++)
			must(strcmp(document->protocol_rules[i]->name,
				     document->protocol_rules[j]->name) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct import import;
	struct error err = {0};
	char *text = malloc(size + 1), *written = NULL;
	size_t length;

	memcpy(text, data, size);
	text[size] = '\0';
	if (import_read(&import, "rules", text, &err) == STATUS_OK) {
		FILE *out = open_memstream(&written, &length);
		struct message_file *file;
		check_document(&import);
		must(import_write(&import, out));
		fclose(out);
		must(message_read_bytes("written", written, length,
			     &postern__v1__policy_document__descriptor, &file, &err) == STATUS_OK);
		message_file_free(file);
		free(written);
	} else {
		must(err.text[0] != '\0');
	}
	import_fini(&import);
	free(text);
	return 0;
}
