#include "proto/rpc/url.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "common/addr.h"

#define HOST_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*"

bool url_is_ipc(const char *url)
{
	return strncmp(url, "ipc://", 6) == 0;
}

bool url_is_tls(const char *url)
{
	return strncmp(url, "tls+tcp://", 10) == 0;
}

static const char *host_begin(const char *url)
{
	return strstr(url, "://") + 3;
}

/* Brackets around everything but the port, or none at all. */
static bool is_host_port(const char *text)
{
	const char *colon = strrchr(text, ':');
	if (!colon || colon[1] == '\0' || colon[1 + strspn(colon + 1, "0123456789")] != '\0')
		return false;
	if (text[0] == '[')
		return colon > text + 2 && colon[-1] == ']' &&
			text + 1 + strspn(text + 1, "0123456789abcdefABCDEF:.") == colon - 1;
	return text + strspn(text, HOST_CHARACTERS) == colon;
}

enum status url_check(const char *url, struct error *err)
{
	const size_t path_size = sizeof((struct sockaddr_un *)0)->sun_path;
	if (strlen(url) > URL_MAX)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%.40s...: an address has at most %d bytes", url, URL_MAX);
	if (url_is_ipc(url)) {
		if (url[6] == '/' && strlen(url + 6) < path_size)
			return STATUS_OK;
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: write ipc:// and an absolute path of at most %zu bytes", url,
			path_size - 1);
	}
	if (!url_is_tls(url) && strncmp(url, "tcp://", 6) != 0)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: unknown address: write ipc:///PATH or tls+tcp://HOST:PORT", url);
	if (!is_host_port(host_begin(url)))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: write HOST:PORT after the scheme, an IPv6 address in brackets", url);
	return STATUS_OK;
}

bool url_has_host(const char *url, const char *host)
{
	return !url_is_ipc(url) && strncmp(host_begin(url), host, strlen(host)) == 0 &&
		host_begin(url)[strlen(host)] == ':';
}

void url_host(char host[static URL_SIZE], const char *url)
{
	const char *begin = host_begin(url);
	size_t size = (size_t)(strrchr(begin, ':') - begin);
	if (*begin == '[') {
		begin++;
		size -= 2;
	}
	snprintf(host, URL_SIZE, "%.*s", (int)size, begin);
}

bool url_is_named(const char *url)
{
	struct addr literal;
	char host[URL_SIZE];
	if (url_is_ipc(url))
		return false;
	url_host(host, url);
	return !addr_parse(host, &literal);
}

bool url_is_loopback(const char *url)
{
	static const uint8_t v6[16] = {[15] = 1};
	struct addr literal;
	char host[URL_SIZE];
	if (url_is_ipc(url))
		return false;
	url_host(host, url);
	if (!addr_parse(host, &literal))
		return strcmp(host, "localhost") == 0;
	return literal.family == ADDR_IPV4 ? literal.bytes[0] == 127
					   : memcmp(literal.bytes, v6, sizeof v6) == 0;
}

void url_rewrite(char out[static URL_SIZE], const char *url, const char *family, const char *host)
{
	const char *begin = host_begin(url);
	const char *port = strrchr(url, ':');
	snprintf(out, URL_SIZE, "%.*s%s://%.*s%s", (int)(begin - url - 3), url, family,
		host ? (int)strlen(host) : (int)(port - begin), host ? host : begin, port);
}
