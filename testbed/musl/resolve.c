// SPDX-License-Identifier: MIT OR Apache-2.0
// Writes the addresses of the first two names, one on each line, and for the third, which does not exist, `none` and how many
// milliseconds it took to learn that.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <time.h>

static int write_addresses(const char *name) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  int failed = getaddrinfo(name, NULL, &hints, &found);
  if (failed) return failed;
  for (struct addrinfo *at = found; at; at = at->ai_next) {
    const void *address = at->ai_family == AF_INET
                              ? (const void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr
                              : (const void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr;
    char text[INET6_ADDRSTRLEN];
    puts(inet_ntop(at->ai_family, address, text, sizeof text));
  }
  freeaddrinfo(found);
  return 0;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int count, char **words) {
  if (count != 4) return 2;
  for (int at = 1; at < 3; at++) {
    int failed = write_addresses(words[at]);
    if (failed) {
      fprintf(stderr, "%s: %s\n", words[at], gai_strerror(failed));
      return 1;
    }
  }
  long before = now_ms();
  int failed = write_addresses(words[3]);
  if (failed != EAI_NONAME) {
    fprintf(stderr, "%s: %s\n", words[3], gai_strerror(failed));
    return 1;
  }
  printf("none %ld\n", now_ms() - before);
}
