/* What the options of a parsed command line say: by name, as numbers, durations, addresses, times
 * and ids. */
#include <stdio.h>
#include <string.h>

#include "client/cli/args.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/config.h"
#include "common/id.h"

const char *args_nth(const struct args *args, const char *name, size_t n)
{
	for (size_t i = 0; i < args->value_count; i++)
		if (strcmp(args->values[i].option->name, name) == 0 && n-- == 0)
			return args->values[i].value;
	return NULL;
}

bool args_has(const struct args *args, const char *name)
{
	for (size_t i = 0; i < args->value_count; i++)
		if (strcmp(args->values[i].option->name, name) == 0)
			return true;
	return false;
}

const char *args_value(const struct args *args, const char *name)
{
	for (size_t i = args->value_count; i > 0; i--)
		if (strcmp(args->values[i - 1].option->name, name) == 0)
			return args->values[i - 1].value;
	return NULL;
}

static enum status bad_value(const char *name, const struct error *why, struct error *err)
{
	return error_field(err, name, "--%s: %.250s", name, why->text);
}

enum status args_number(const struct args *args, const char *name, uint64_t max,
	uint64_t *ret_number, struct error *err)
{
	const char *value = args_value(args, name);
	struct error why;

	if (value == NULL || parse_number(value, 0, max, ret_number, &why) == STATUS_OK)
		return STATUS_OK;
	return bad_value(name, &why, err);
}

enum status args_duration(const struct args *args, const char *name, uint64_t max_ms,
	uint64_t *ret_ms, struct error *err)
{
	const char *value = args_value(args, name);
	struct error why;
	uint64_t ms;

	if (value == NULL)
		return STATUS_OK;
	if (parse_duration(value, &ms, &why) != STATUS_OK)
		return bad_value(name, &why, err);
	if (ms == 0 || ms > max_ms) {
		char most[32];
		format_duration(max_ms, most, sizeof(most));
		return error_field(err, name, "--%s: '%.64s' is out of range: from 1ms to %s", name,
			value, most);
	}
	*ret_ms = ms;
	return STATUS_OK;
}

enum status args_choice(
	const struct args *args, const char *name, int *ret_value, struct error *err)
{
	for (size_t i = args->value_count; i > 0; i--) {
		const struct arg_value *given = &args->values[i - 1];

		if (strcmp(given->option->name, name) != 0)
			continue;
		if (name_parse(given->option->choices, given->value, ret_value))
			return STATUS_OK;
		return error_field(err, name, "--%s: unknown value '%.64s'", name, given->value);
	}
	return STATUS_OK;
}

enum status args_endpoint(const struct args *args, const char *name, bool need_port,
	struct endpoint *ret_endpoint, struct error *err)
{
	const char *value = args_value(args, name);

	if (value == NULL || endpoint_parse(value, need_port, ret_endpoint))
		return STATUS_OK;
	return error_field(err, name,
		"--%s: '%.64s' is no %s: write 192.0.2.1:1046 or [2001:db8::1]:1046%s", name, value,
		need_port ? "address with a port" : "address",
		need_port ? "" : " (the port may be left out)");
}

enum status args_address(
	const struct args *args, const char *name, struct addr *ret_addr, struct error *err)
{
	const char *value = args_value(args, name);
	struct endpoint endpoint;

	if (value == NULL)
		return STATUS_OK;
	if (!endpoint_parse(value, false, &endpoint) || endpoint.port != 0)
		return error_field(err, name,
			"--%s: '%.64s' is no address: write 192.0.2.1 or [2001:db8::1], without a "
			"port",
			name, value);
	*ret_addr = endpoint.addr;
	return STATUS_OK;
}

enum status args_time(const struct args *args, const char *name, int64_t now_us,
	int64_t *ret_real_us, struct error *err)
{
	const char *value = args_value(args, name);
	struct error why;

	if (value == NULL || text_parse_time(value, now_us, ret_real_us, &why) == STATUS_OK)
		return STATUS_OK;
	return bad_value(name, &why, err);
}

enum status args_id(
	const struct args *args, const char *name, const char **ret_id, struct error *err)
{
	const char *value = args_value(args, name);
	struct id id;

	if (value == NULL)
		return STATUS_OK;
	if (!id_parse(value, &id))
		return error_field(err, name,
			"--%s: '%.64s' is no id: write it whole, as 'postern ... list' prints it",
			name, value);
	*ret_id = value;
	return STATUS_OK;
}
