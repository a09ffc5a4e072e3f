// The same as try.c for C++.
#include <postern/postern.h>

#include <cstdio>

int main(int argc, char **argv)
{
	postern_options options = {};
	postern *connection = nullptr;
	postern_error err;

	if (argc != 2)
		return 2;
	std::printf("version %s\n", postern_version());
	postern_status status = postern_connect(&options, &connection, &err);
	std::printf("%s %s\n", postern_status_name(status), err.field);

	options.server = "ipc:///nonexistent/postern.sock";
	options.token_file = argv[1];
	options.connect_ms = 100;
	status = postern_connect(&options, &connection, &err);
	std::printf("%s\n", postern_status_name(status));
	postern_close(connection);
	return 0;
}
