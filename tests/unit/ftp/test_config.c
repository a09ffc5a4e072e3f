/* The configuration: defaults, and what is refused with which words. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/inspectors/ftp/config.h"

static enum status read_text(const char *text, struct ftp_config *config, struct error *err)
{
	char path[] = "/tmp/postern-ftp-test-XXXXXX";
	int fd = mkstemp(path);
	enum status status;

	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	status = ftp_config_read(path, config, err);
	unlink(path);
	return status;
}

Test(config, defaults)
{
	struct ftp_config config;
	struct error err;

	cr_assert_eq(read_text("gateway = gw1\n", &config, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(config.listen.count, 2);
	cr_expect_str_eq(config.protocol, "ftp");
	cr_expect_eq(config.auth_tls, FTP_AUTH_TLS_REFUSE);
	cr_expect_eq(config.deadline_ms, 5000);
	cr_expect_eq(config.passive_address, FTP_PASSIVE_STRICT);
	cr_expect_eq(ftp_config_external(&config, ADDR_IPV4).family, ADDR_NONE);
	cr_expect_eq(ftp_config_external(&config, ADDR_IPV6).family, ADDR_NONE);
	cr_expect_null(config.server); /* then $POSTERN_SERVER */
	ftp_config_fini(&config);
}

Test(config, refusals)
{
	static const struct {
		const char *text, *words;
	} table[] = {
		{"", "gateway is missing"},
		{"gateway = g\nlisten = 1.2.3.4\n", "not ADDRESS:PORT"},
		{"gateway = g\nlisten = [::]:0\n", "not ADDRESS:PORT"},
		{"gateway = g\nauth_tls = maybe\n", "refuse, pass"},
		{"gateway = g\ndeadlin = 1s\n", "did you mean \"deadline\""},
		{"gateway = g\nlowest_source_port = 30000\nhighest_source_port = 2000\n",
			"exchange them"},
		{"gateway = g\nmax_sessions = 0\n", "outside"},
		{"gateway = g\nexternal = gw.example\n", "not an address"},
		{"gateway = g\nexternal = 127.0.0.1\n", "not an address"},
		{"gateway = g\nexternal = 10.0.0.1\nexternal = 10.0.0.2\n", "second IPv4"},
		{"gateway = g\nexternal = fd77::1\nexternal = fd77::2\n", "second IPv6"},
		{"gateway = g\npassive_address = loose\n", "strict, server"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct ftp_config config;
		struct error err = {0};

		cr_expect_eq(read_text(table[i].text, &config, &err), STATUS_INVALID_ARGUMENT);
		cr_expect(strstr(err.text, table[i].words), "%s", err.text);
	}
}

Test(config, adopts_what_may_change)
{
	struct ftp_config config, other;
	struct error err;

	cr_assert_eq(read_text("gateway = g\n", &config, &err), STATUS_OK);
	cr_assert_eq(read_text("gateway = g\nauth_tls = pass\nexternal = 10.77.2.101\nexternal = "
			       "fd77:2::1\n"
			       "passive_address = server\n",
			     &other, &err),
		STATUS_OK);
	cr_expect(ftp_config_adopt(&config, &other));
	cr_expect_eq(ftp_config_external(&config, ADDR_IPV4).bytes[3], 101);
	cr_expect_eq(ftp_config_external(&config, ADDR_IPV6).bytes[0], 0xfd);
	cr_expect_eq(config.passive_address, FTP_PASSIVE_SERVER);
	cr_expect_eq(config.auth_tls, FTP_AUTH_TLS_PASS);
	ftp_config_fini(&other);
	cr_assert_eq(read_text("gateway = h\ndeadline = 1s\n", &other, &err), STATUS_OK);
	cr_expect_not(ftp_config_adopt(&config, &other));
	cr_expect_eq(config.deadline_ms, 1000);
	cr_expect_str_eq(config.gateway, "g");
	ftp_config_fini(&other);
	ftp_config_fini(&config);
}
