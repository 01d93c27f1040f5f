/* Decodes boxes of JPEG files with mixer_jax/data/region.c, under AddressSanitizer: region <file> ... */

#include <stdio.h>
#include <stdlib.h>

int read_size(const unsigned char *encoded, unsigned long length, unsigned *size);
int decode_region(const unsigned char *encoded, unsigned long length, unsigned top, unsigned left, unsigned height,
                  unsigned width, unsigned char *pixels);

int main(int count, char **names) {
    unsigned long refused = 0, accepted = 0;
    unsigned state = 1;
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (!file) return 2;
        fseek(file, 0, SEEK_END);
        long length = ftell(file);
        rewind(file);
        unsigned char *encoded = malloc(length ? length : 1); /* exactly, so that reading past the end is found */
        if (fread(encoded, 1, length, file) != (size_t)length) return 2;
        fclose(file);
        unsigned size[2];
        if (read_size(encoded, length, size) || (unsigned long)size[0] * size[1] > 1 << 24) {
            refused++;
        } else {
            for (int box = 0; box < 4; box++) {
                unsigned draw[4];
                for (int n = 0; n < 4; n++) draw[n] = state = state * 1664525u + 1013904223u;
                unsigned height = 1 + (draw[0] >> 8) % size[0], width = 1 + (draw[1] >> 8) % size[1];
                unsigned top = (draw[2] >> 8) % (size[0] - height + 1), left = (draw[3] >> 8) % (size[1] - width + 1);
                unsigned char *pixels = malloc((size_t)height * width * 3);
                if (decode_region(encoded, length, top, left, height, width, pixels)) refused++;
                else accepted++;
                free(pixels);
            }
        }
        free(encoded);
    }
    printf("{\"refused\": %lu, \"accepted\": %lu}\n", refused, accepted);
    return 0;
}
